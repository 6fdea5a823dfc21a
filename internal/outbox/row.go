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
	KindToken     Kind = "token"     // an event about a backend's tokens
	KindSpawn     Kind = "spawn"     // an action, and before it the state scheduled
	KindTerminate Kind = "terminate" // an action
	KindNap       Kind = "nap"       // an action, and before it the event that the backend falls asleep or wakes
)

// Row is one committed row.
type Row struct {
	// ID is 0 for actions just written: nobody needs it.
	ID        int64
	Kind      Kind
	BackendID string
	Drone     string
	// Status and LastStatus are those of a state.
	Status, LastStatus messages.Status
	// Body is JSON, by kind: StateBody, DroneEvent, Terminate, or a SpawnBody
	// without what only the database knew, which is in the fields after the next one.
	Body []byte
	// Spawn is what the Body of a spawn says, where whoever made the row has it at
	// hand: it was placed for the first time.
	Spawn        *messages.Spawn
	FencingToken int64
	// StaticToken is that of a spawn, sealed: only who publishes it opens it.
	StaticToken string
	// Resumes is the backend whose life that of a spawn goes on; "": none.
	Resumes     string
	DroneTimeMS int64
	Traceparent string // a messages.TraceContext
	Nap         int64  // of a nap
	At          time.Time
}

// StateBody is the body of a state's row.
type StateBody struct {
	messages.State
	// DormantSeconds is for how long the key is dormant from when the row was written.
	DormantSeconds int64 `json:"dormant_seconds,omitempty"`
}

// SpawnBody is the body of a spawn's row: what its drone gets, and what placing it on
// another drone takes.
type SpawnBody struct {
	messages.Spawn
	// PlaceWithinMS is for how long after its row was written it may be placed again:
	// what was left of the request's time, in milliseconds.
	PlaceWithinMS int64 `json:"place_within_ms,omitempty"`
	// RefusedBy are the drones that did not take it.
	RefusedBy []string `json:"refused_by,omitempty"`
}

// Deadlines gives the deadlines that count from a drone time in milliseconds.
type Deadlines func(droneTimeMS int64) messages.Deadlines

// State puts the event that the row stands for, as it goes over the bus; nil when
// it stands for none.
func (r *Row) State() (*nats.Msg, error) {
	switch r.Kind {
	case KindSpawn, KindState:
		var state StateBody
		if r.Kind == KindState {
			if err := r.body(&state); err != nil {
				return nil, err
			}
		}
		state.Status = r.Status
		if r.LastStatus != 0 {
			state.LastStatus = r.LastStatus
		}
		event := messages.NewStateEvent(r.BackendID, r.At, state.State)
		event.FencingToken, event.Resumes = r.FencingToken, r.Resumes
		if state.DormantSeconds > 0 {
			until := event.Time.Add(time.Duration(state.DormantSeconds) * time.Second)
			event.DormantUntil = &until
		}
		if r.Kind == KindSpawn {
			body, err := r.spawn()
			if err != nil {
				return nil, err
			}
			event.Template = body.Template.NameOf()
		}
		return r.message(messages.BackendEventSubject(r.BackendID), event.ID, event), nil

	case KindDrone:
		var event messages.DroneEvent
		if err := r.body(&event); err != nil {
			return nil, err
		}
		event.Time = r.At.UTC()
		return r.message(messages.DroneEventSubject(r.Drone), event.ID, event), nil

	case KindToken:
		var event messages.TokenEvent
		if err := r.body(&event); err != nil {
			return nil, err
		}
		event.Time = r.At.UTC()
		return r.message(messages.TokenEventSubject(r.BackendID), event.ID, event), nil

	case KindNap:
		event := messages.NewSleepEvent(r.BackendID, r.At, r.Nap)
		return r.message(messages.SleepEventSubject(r.BackendID), event.ID, event), nil

	case KindTerminate:
		return nil, nil
	}
	return nil, fmt.Errorf("outbox row %d is of the unknown kind %q", r.ID, r.Kind)
}

// Open gives a static token by what is stored of it.
type Open func(stored string) (token string, err error)

// Action puts the action that the row stands for; nil when it stands for none.
func (r *Row) Action(deadlines Deadlines, open Open) (*nats.Msg, error) {
	action := messages.Action{Time: r.At.UTC(), BackendID: r.BackendID}
	switch r.Kind {
	case KindSpawn:
		body, err := r.spawn()
		if err != nil {
			return nil, err
		}
		action.Type, action.Spawn = messages.TypeSpawn, &body.Spawn
		action.ID = messages.SpawnAgainID(r.BackendID, len(body.RefusedBy))
		action.Spawn.FencingToken = r.FencingToken
		action.Spawn.Deadlines = deadlines(r.DroneTimeMS)
		if r.StaticToken != "" {
			token, err := open(r.StaticToken)
			if err != nil {
				return nil, fmt.Errorf("the spawn of backend %s: %w", r.BackendID, err)
			}
			action.Spawn.StaticToken = token
		}
	case KindTerminate:
		action.Type, action.Terminate = messages.TypeTerminate, new(messages.Terminate)
		if err := r.body(action.Terminate); err != nil {
			return nil, err
		}
		action.ID = messages.TerminateID(r.BackendID, action.Terminate.Hard)
	case KindNap:
		action = messages.NewNapAction(r.BackendID, r.At, r.Nap)
	default:
		return nil, nil
	}
	return r.message(messages.ActionSubject(r.Drone), action.ID, action), nil
}

// spawn is the body of a spawn's row.
func (r *Row) spawn() (*SpawnBody, error) {
	body := new(SpawnBody)
	if r.Spawn != nil {
		body.Spawn = *r.Spawn
		return body, nil
	}
	return body, r.body(body)
}

func (r *Row) message(subject, id string, payload any) *nats.Msg {
	msg := &nats.Msg{Subject: subject, Data: messages.Encode(payload), Header: nats.Header{messages.HeaderMessageID: {id}}}
	setTrace(msg.Header, r.Traceparent)
	return msg
}

// setTrace sets the headers of a trace context; nothing where there is none.
func setTrace(header nats.Header, context string) {
	traceparent, tracestate := messages.TraceHeaders(context)
	if traceparent != "" {
		header[messages.HeaderTraceparent] = []string{traceparent}
	}
	if tracestate != "" {
		header[messages.HeaderTracestate] = []string{tracestate}
	}
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
