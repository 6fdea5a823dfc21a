package outbox

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/messages"
)

// Kind says what a row becomes on the bus.
type Kind string

// The kinds of rows.
const (
	KindState     Kind = "state"     // an event about a backend
	KindDrone     Kind = "drone"     // an event about a drone
	KindSpawn     Kind = "spawn"     // an action
	KindTerminate Kind = "terminate" // an action
)

// Action says that the row is for one drone and stays until that took it.
func (k Kind) Action() bool { return k == KindSpawn || k == KindTerminate }

// Row is one committed row.
type Row struct {
	ID        int64
	Kind      Kind
	BackendID string
	Drone     string
	// Status and LastStatus are those of a state.
	Status, LastStatus messages.Status
	// Until is the status that shows that an action was taken.
	Until messages.Status
	// Body is JSON, by kind: messages.State, DroneEvent, Terminate, or Spawn
	// without what only the database knew, which is in the next two fields.
	Body         []byte
	FencingToken int64
	DroneTimeMS  int64
	Traceparent  string
	At           time.Time
}

// Deadlines gives the deadlines that count from a drone time in milliseconds.
type Deadlines func(droneTimeMS int64) messages.Deadlines

// Message puts the row as it goes over the bus.
func (r *Row) Message(deadlines Deadlines) (*nats.Msg, error) {
	var subject, id string
	var payload any
	switch r.Kind {
	case KindState:
		var state messages.State
		if err := r.body(&state); err != nil {
			return nil, err
		}
		state.Status = r.Status
		if r.LastStatus != 0 {
			state.LastStatus = r.LastStatus
		}
		event := messages.NewStateEvent(r.BackendID, r.At, state)
		subject, id, payload = messages.BackendEventSubject(r.BackendID), event.ID, event

	case KindDrone:
		var event messages.DroneEvent
		if err := r.body(&event); err != nil {
			return nil, err
		}
		event.Time = r.At.UTC()
		subject, id, payload = messages.DroneEventSubject(r.Drone), event.ID, event

	case KindSpawn:
		spawn := new(messages.Spawn)
		if err := r.body(spawn); err != nil {
			return nil, err
		}
		spawn.FencingToken = r.FencingToken
		spawn.Deadlines = deadlines(r.DroneTimeMS)
		id = messages.SpawnID(r.BackendID)
		subject, payload = messages.ActionSubject(r.Drone), messages.Action{
			Type: messages.TypeSpawn, ID: id, Time: r.At.UTC(), BackendID: r.BackendID, Spawn: spawn,
		}

	case KindTerminate:
		terminate := new(messages.Terminate)
		if err := r.body(terminate); err != nil {
			return nil, err
		}
		id = messages.TerminateID(r.BackendID, terminate.Hard)
		subject, payload = messages.ActionSubject(r.Drone), messages.Action{
			Type: messages.TypeTerminate, ID: id, Time: r.At.UTC(), BackendID: r.BackendID, Terminate: terminate,
		}

	default:
		return nil, fmt.Errorf("outbox row %d is of the unknown kind %q", r.ID, r.Kind)
	}
	msg := &nats.Msg{Subject: subject, Data: messages.Encode(payload), Header: nats.Header{messages.HeaderMessageID: {id}}}
	if r.Traceparent != "" {
		msg.Header[messages.HeaderTraceparent] = []string{r.Traceparent}
	}
	return msg, nil
}

func (r *Row) body(v any) error {
	if len(r.Body) == 0 {
		return nil
	}
	if err := json.Unmarshal(r.Body, v); err != nil {
		return fmt.Errorf("outbox row %d of kind %s: %w", r.ID, r.Kind, err)
	}
	return nil
}
