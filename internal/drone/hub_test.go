package drone_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/messages"
)

// A lease ends softly and hard after times of the drone that pass only in tests that move its
// clock; the same holds of the grace that it gives.
const (
	grace = 20 * time.Minute
	soft  = 40 * time.Minute
	hard  = 50 * time.Minute
)

// hub is the workers' side of the protocol with a script instead of a database. It
// has one drone.
type hub struct {
	t     testing.TB
	drone string
	nc    *nats.Conn
	js    jetstream.JetStream
	subs  []*nats.Subscription

	mu sync.Mutex
	// terms: what a renewal gives, in milliseconds from the drone's time.
	softMS, hardMS, everyMS int64
	session                 string
	droneTimeMS             int64
	registrations           []messages.RegisterRequest // the first of each session
	comparisons             []messages.RegisterRequest // further ones
	refusing                *messages.Error            // what a registration gets instead of an answer
	unheard                 int                        // registrations that got that
	machine                 string                     // has the name: others are refused; "": nobody is
	sealed                  map[string]bool
	heartbeats              []messages.HeartbeatRequest
	states                  map[string][]messages.State // as first reported
	bad                     map[string]bool             // refused as BadRequest
	disowned                map[string]bool             // refused as NotFound
	lost                    map[string]bool             // not the session's any more
	refusals                int
	refused                 map[string]bool     // by the drone, for want of room
	progress                map[string][]string // the messages of loading
	onRegister              func()
	ignored                 int           // so many registrations are lost,
	heard                   bool          // or only their answers are
	slow                    time.Duration // before each answer to reports
	templates               messages.TemplatesResponse
	draining                bool
}

func newHub(tb testing.TB, url string) *hub {
	tb.Helper()
	nc := natstest.Conn(tb, url)
	h := &hub{
		t: tb, drone: droneName(tb), nc: nc, js: natstest.JetStream(tb, nc),
		softMS: soft.Milliseconds(), hardMS: hard.Milliseconds(), everyMS: 100,
		states: map[string][]messages.State{}, bad: map[string]bool{}, disowned: map[string]bool{}, lost: map[string]bool{}, sealed: map[string]bool{},
		refused: map[string]bool{}, progress: map[string][]string{}, onRegister: func() {},
	}
	h.up()
	return h
}

var errIgnored = errors.New("this is not answered")

// up begins to answer, down stops: the workers are back, or away.
func (h *hub) up() {
	h.t.Helper()
	for subject, handle := range map[string]func([]byte) (any, error){
		messages.SubjectAnyRegister:  h.register,
		messages.SubjectAnyHeartbeat: h.heartbeat,
		messages.SubjectAnyReport:    h.report,
		messages.SubjectAnyTemplates: h.templatesOf,
	} {
		sub, err := h.nc.Subscribe(subject, func(msg *nats.Msg) {
			if name := strings.Split(msg.Subject, ".")[2]; strings.HasPrefix(name, testDrone) && name != h.drone {
				return // another test's: see droneName
			}
			resp, err := handle(msg.Data)
			if errors.Is(err, errIgnored) {
				return
			}
			if err == nil {
				_ = msg.Respond(messages.Encode(resp))
				return
			}
			if errors.Is(err, errSilent) {
				return
			}
			var refused *messages.Error
			if !asError(err, &refused) {
				refused = messages.Errorf(messages.Unavailable, "%v", err)
			}
			reply := nats.NewMsg(msg.Reply)
			reply.Header.Set(messages.HeaderError, refused.Message)
			reply.Header.Set(messages.HeaderErrorCode, refused.CodeString())
			reply.Data = messages.Encode(refused)
			_ = msg.RespondMsg(reply)
		})
		if err != nil {
			h.t.Fatal(err)
		}
		h.subs = append(h.subs, sub)
	}
	if err := h.nc.FlushTimeout(testkit.Patience); err != nil {
		h.t.Fatal(err)
	}
}

func (h *hub) down() {
	h.t.Helper()
	for _, sub := range h.subs {
		if err := sub.Unsubscribe(); err != nil {
			h.t.Fatal(err)
		}
	}
	h.subs = nil
	if err := h.nc.FlushTimeout(testkit.Patience); err != nil {
		h.t.Fatal(err)
	}
}

func (h *hub) register(data []byte) (any, error) {
	req, err := messages.Decode[messages.RegisterRequest](data)
	if err != nil {
		return nil, err
	}
	if err := h.refuses(&req); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	// What is there is left as it is: with the short interval of these tests the drone waits for a quarter of a second.
	consumer := h.drone
	if _, err := h.js.PushConsumer(ctx, messages.StreamActions, h.drone); err != nil {
		if err := bus.EnsureStreams(ctx, h.js, bus.Streams{}); err != nil {
			return nil, err
		}
		if consumer, err = bus.EnsureConsumer(ctx, h.js, h.drone); err != nil {
			return nil, err
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ignored > 0 {
		if h.ignored--; h.heard {
			h.session = req.Session
		}
		return nil, errIgnored
	}
	if last := len(h.registrations) - 1; last >= 0 && h.registrations[last].Session == req.Session {
		h.comparisons = append(h.comparisons, req)
	} else {
		h.registrations = append(h.registrations, req)
	}
	h.session, h.droneTimeMS = req.Session, req.DroneTimeMS
	h.onRegister()
	resp := messages.RegisterResponse{
		Stream: messages.StreamActions, Consumer: consumer, HeartbeatIntervalMS: h.everyMS,
		TemplatesRevision: h.templates.Revision, Renewal: h.renewal(req.DroneTimeMS),
	}
	for _, id := range req.Backends {
		if h.lost[id] {
			resp.Lost = append(resp.Lost, id)
		}
	}
	return resp, nil
}

// errSilent is no answer.
var errSilent = errors.New("no answer")

func (h *hub) refuses(req *messages.RegisterRequest) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.refusing != nil:
		h.unheard++
		if h.refusing.Kind == "" {
			return errSilent
		}
		return h.refusing
	case h.machine != "" && h.machine != req.MachineID:
		h.unheard++
		return messages.Errorf(messages.DroneHeld, "the name is that of machine %s; this is machine %s", h.machine, req.MachineID)
	}
	return nil
}

func (h *hub) heartbeat(data []byte) (any, error) {
	req, err := messages.Decode[messages.HeartbeatRequest](data)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if req.Session != h.session {
		return nil, messages.Errorf(messages.NotFound, "no such session")
	}
	h.droneTimeMS = req.DroneTimeMS
	h.heartbeats = append(h.heartbeats, req)
	return messages.HeartbeatResponse{Draining: h.draining, TemplatesRevision: h.templates.Revision, Renewal: h.renewal(req.DroneTimeMS)}, nil
}

func (h *hub) renewal(droneTimeMS int64) messages.Renewal {
	return messages.Renewal{Deadlines: h.deadlines(droneTimeMS), Sealed: slices.Sorted(maps.Keys(h.sealed))}
}

func (h *hub) deadlines(ms int64) messages.Deadlines {
	return messages.Deadlines{RenewAtMS: ms + h.everyMS, SoftTerminateAtMS: ms + h.softMS, HardTerminateAtMS: ms + h.hardMS}
}

func (h *hub) report(data []byte) (any, error) {
	req, err := messages.Decode[messages.ReportRequest](data)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	slow := h.slow
	h.mu.Unlock()
	<-time.After(slow)
	h.mu.Lock()
	defer h.mu.Unlock()
	if req.Session != h.session {
		h.refusals++
		return nil, messages.Errorf(messages.NotFound, "no such session")
	}
	refused := messages.Errorf(messages.NotFound, "not yours")
	for _, r := range req.Reports {
		if h.bad[r.BackendID] {
			h.refusals++
			return nil, messages.Errorf(messages.BadRequest, "reports: cannot read it")
		}
		if h.disowned[r.BackendID] {
			refused.Backends = append(refused.Backends, r.BackendID)
		}
	}
	if len(refused.Backends) > 0 {
		h.refusals++
		return nil, refused
	}
	for _, r := range req.Reports {
		known := h.states[r.BackendID]
		h.refused[r.BackendID] = h.refused[r.BackendID] || r.Refused
		if r.Status == messages.Loading && r.Message != "" {
			h.progress[r.BackendID] = append(h.progress[r.BackendID], r.Message)
		}
		if len(known) > 0 && known[len(known)-1].Status >= r.Status {
			if !slices.ContainsFunc(known, func(s messages.State) bool { return s.Status == r.Status }) {
				h.t.Errorf("I5: %s reported %s after %s", r.BackendID, r.Status, known[len(known)-1].Status)
			}
			continue // a report that was answered, but whose answer was lost
		}
		h.states[r.BackendID] = append(known, r.State)
	}
	return messages.Empty{}, nil
}

// set changes the script.
func (h *hub) set(change func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change()
}

// spawn sends the action that spawns a backend, on the present session.
func (h *hub) spawn(id string, executable json.RawMessage, change ...func(*messages.Spawn)) messages.Action {
	h.t.Helper()
	h.mu.Lock()
	action := messages.Action{
		Type: messages.TypeSpawn, ID: messages.SpawnID(id), Time: time.Now().UTC(), BackendID: id,
		Spawn: &messages.Spawn{
			Session: h.session, Key: messages.Key{Name: "doc-" + id, Namespace: "ns"}, FencingToken: 7,
			Deadlines: h.deadlines(h.droneTimeMS), Executable: executable,
		},
	}
	h.mu.Unlock()
	for _, c := range change {
		c(action.Spawn)
	}
	h.publish(messages.Encode(action))
	return action
}

// spawnAsync is spawn without waiting for the stream.
func (h *hub) spawnAsync(id string, executable json.RawMessage) {
	h.mu.Lock()
	action := messages.Encode(messages.Action{
		Type: messages.TypeSpawn, ID: messages.SpawnID(id), Time: time.Now().UTC(), BackendID: id,
		Spawn: &messages.Spawn{
			Session: h.session, Key: messages.Key{Name: "doc-" + id}, FencingToken: 7,
			Deadlines: h.deadlines(h.droneTimeMS), Executable: executable,
		},
	})
	h.mu.Unlock()
	if _, err := h.js.PublishAsync(messages.ActionSubject(h.drone), action); err != nil {
		h.t.Fatal(err)
	}
}

func (h *hub) terminate(id string, hard bool) {
	h.t.Helper()
	h.publish(messages.Encode(messages.Action{
		Type: messages.TypeTerminate, ID: messages.TerminateID(id, hard), Time: time.Now().UTC(), BackendID: id,
		Terminate: &messages.Terminate{Hard: hard, Reason: messages.ReasonExternal},
	}))
}

func (h *hub) publish(action []byte) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	if _, err := h.js.Publish(ctx, messages.ActionSubject(h.drone), action); err != nil {
		h.t.Fatal(err)
	}
}

// settled waits until every action was acknowledged.
func (h *hub) settled() {
	h.t.Helper()
	testkit.Eventually(h.t, "all actions are acknowledged", func() bool { return h.unacknowledged() == 0 })
}

// unacknowledged is how many actions are not; without an answer from NATS, very many.
func (h *hub) unacknowledged() uint64 {
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	stream, err := h.js.Stream(ctx, messages.StreamActions)
	if err != nil {
		return math.MaxUint64
	}
	return stream.CachedInfo().State.Msgs
}

// await waits until a backend has reported a status, and gives its states so far.
func (h *hub) await(id string, status messages.Status) []messages.State {
	h.t.Helper()
	var states []messages.State
	testkit.Eventually(h.t, id+" is reported "+status.String(), func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		states = slices.Clone(h.states[id])
		return len(states) > 0 && states[len(states)-1].Status >= status
	})
	return states
}

// end waits until a backend is terminated and gives that state.
func (h *hub) end(id string) messages.State {
	h.t.Helper()
	states := h.await(id, messages.Terminated)
	return states[len(states)-1]
}

func (h *hub) registered() []messages.RegisterRequest {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.registrations)
}

// compared are the registrations that repeated that of their session.
func (h *hub) compared() []messages.RegisterRequest {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.comparisons)
}

// renews says that the newest heartbeat renewed so many backends.
func (h *hub) renews(backends int) bool { return h.lastHeartbeat().Load.Backends == backends }

func (h *hub) lastHeartbeat() messages.HeartbeatRequest {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.heartbeats) == 0 {
		return messages.HeartbeatRequest{}
	}
	return h.heartbeats[len(h.heartbeats)-1]
}

func statusesOf(states []messages.State) []messages.Status {
	list := make([]messages.Status, 0, len(states))
	for _, s := range states {
		list = append(list, s.Status)
	}
	return list
}
