package worker_test

import (
	"errors"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/messages"
	"github.com/jetway-project/jetway/messages/client"
)

// peer is a drone that runs nothing: it notes its actions, and reports what the
// test says.
type peer struct {
	w       *world
	name    string
	session string
	clock   atomic.Int64 // its boot-time milliseconds
	where   messages.RegisterResponse
	// stopConsuming leaves actions in the stream; consume takes them again.
	stopConsuming func()

	mu      sync.Mutex
	actions []messages.Action
}

// startPeer registers a drone that is ready for backends.
func startPeer(t *testing.T, w *world, name string) *peer {
	t.Helper()
	p := &peer{w: w, name: name, session: "s-" + name}
	p.clock.Store(1000)
	p.where = p.register(p.session)
	if p.where.Stream != messages.StreamActions || p.where.Consumer != name {
		t.Fatalf("register is answered %+v", p.where)
	}
	p.consume()
	t.Cleanup(func() { p.stopConsuming() })
	p.heartbeat()
	return p
}

// consume takes actions until stopConsuming is called.
func (p *peer) consume() {
	t := p.w.t
	t.Helper()
	nc := natstest.Conn(t, p.w.url)
	sub, err := nc.Subscribe(messages.DeliverSubject(p.name), func(msg *nats.Msg) {
		if msg.Header.Get("Status") != "" {
			return // a heartbeat
		}
		action, err := messages.Decode[messages.Action](msg.Data)
		if err != nil {
			t.Errorf("an action cannot be read: %v", err)
		}
		p.mu.Lock()
		p.actions = append(p.actions, action)
		p.mu.Unlock()
		_ = msg.Ack()
	})
	must(t, err)
	must(t, nc.FlushTimeout(testkit.Patience))
	p.stopConsuming = sync.OnceFunc(func() {
		_ = sub.Unsubscribe()
		_ = nc.FlushTimeout(testkit.Patience)
	})
}

// beat is what a heartbeat came to, for the backends that the test names: whose keys were
// renewed with the session, and which are sealed or not the session's.
type beat struct {
	messages.HeartbeatResponse
	Renewed, Lost []string
}

func (p *peer) heartbeat(named ...string) (b beat) {
	p.w.t.Helper()
	data, refusal := p.w.ask(messages.HeartbeatSubject(p.name), messages.HeartbeatRequest{
		Session: p.session, DroneTimeMS: p.clock.Add(1), Ready: true,
	})
	if refusal != nil {
		p.w.t.Fatalf("heartbeat: %v", refusal)
	}
	b.HeartbeatResponse = as[messages.HeartbeatResponse](p.w.t, data)
	for _, id := range named {
		if slices.Contains(b.Sealed, id) || p.w.count("backend where id = $1 and drone = $2 and session = $3 and status < 70", id, p.name, p.session) == 0 {
			b.Lost = append(b.Lost, id)
		} else {
			b.Renewed = append(b.Renewed, id)
		}
	}
	return b
}

// register begins a session, or repeats it, with backends that run.
func (p *peer) register(session string, backends ...string) messages.RegisterResponse {
	p.w.t.Helper()
	p.session = session
	data, refusal := p.w.ask(messages.RegisterSubject(p.name), messages.RegisterRequest{
		Session: session, MachineID: "m", BootID: "b", Cluster: cluster, DroneTimeMS: p.clock.Add(1), Backends: backends,
	})
	if refusal != nil {
		p.w.t.Fatalf("register: %v", refusal)
	}
	return as[messages.RegisterResponse](p.w.t, data)
}

// tryReport reports states and gives the refusal, if there is one.
func (p *peer) tryReport(reports ...messages.Report) *messages.Error {
	p.w.t.Helper()
	_, refusal := p.w.ask(messages.ReportSubject(p.name), messages.ReportRequest{Session: p.session, Reports: reports})
	return refusal
}

// report wants states of one backend acknowledged, in one message. As a drone does, it says
// them again when the worker could not take them in its time.
func (p *peer) report(backend string, statuses ...messages.Status) {
	p.w.t.Helper()
	reports := make([]messages.Report, len(statuses))
	for i, s := range statuses {
		reports[i] = stateOf(backend, s)
	}
	testkit.Eventually(p.w.t, "a report is taken", func() bool {
		refusal := p.tryReport(reports...)
		if refusal != nil && refusal.Kind != messages.Unavailable {
			p.w.t.Fatalf("report of %s: %v", backend, refusal)
		}
		return refusal == nil
	})
}

func stateOf(backend string, s messages.Status) messages.Report {
	r := messages.Report{BackendID: backend, State: messages.State{Status: s}}
	if s == messages.Waiting || s == messages.Ready {
		r.Address = "127.0.0.1:4000"
	}
	if s == messages.Terminated {
		r.Kind, r.Reason = messages.Soft, messages.ReasonExternal
	}
	return r
}

// seen gives the actions about a backend so far, each once: until a drone's reports show that
// it has taken one it comes again, after some seconds, and is the same.
func (p *peer) seen(backend string) (seen []messages.Action) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range p.actions {
		again := slices.ContainsFunc(seen, func(b messages.Action) bool {
			return a.ID == b.ID && reflect.DeepEqual(a.Spawn, b.Spawn) && reflect.DeepEqual(a.Terminate, b.Terminate)
		})
		if a.BackendID == backend && !again {
			seen = append(seen, a)
		}
	}
	return seen
}

// awaitAction waits for an action by its id.
func (p *peer) awaitAction(backend, id string) (action messages.Action) {
	p.w.t.Helper()
	testkit.Eventually(p.w.t, "the action "+id, func() bool {
		for _, a := range p.seen(backend) {
			if a.ID == id {
				action = a
				return true
			}
		}
		return false
	})
	return action
}

// marker makes sure that all actions published before have arrived: those of a
// drone come in order, so it has one more come.
func (p *peer) marker() {
	p.w.t.Helper()
	resp := p.w.connect(spawnKey("marker-" + nats.NewInbox()))
	p.awaitAction(resp.BackendID, messages.SpawnID(resp.BackendID))
}

// events gives what was published on the subject of one backend or drone, in order, each once: a row that
// a slow worker has in hand for more than 5 s is published by another one too, under the same id. (That
// each comes once where no time passes is wanted by the tests of the outbox.)
func events(t *testing.T, w *world, subject string) (published []*jetstream.RawStreamMsg) {
	t.Helper()
	stream, err := natstest.JetStream(t, w.nc).Stream(t.Context(), messages.StreamEvents)
	must(t, err)
	seen := make(map[string]bool)
	for seq := uint64(1); ; {
		msg, err := stream.GetMsg(t.Context(), seq, jetstream.WithGetMsgSubject(subject))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return published
		}
		must(t, err)
		if id := msg.Header.Get(messages.HeaderMessageID); !seen[id] {
			seen[id] = true
			published = append(published, msg)
		}
		seq = msg.Sequence + 1
	}
}

// numbers gives the published states of a backend.
func numbers(t *testing.T, w *world, backend string) (published []messages.Status) {
	t.Helper()
	for _, msg := range events(t, w, messages.BackendEventSubject(backend)) {
		event := as[messages.StateEvent](t, msg.Data)
		if msg.Header.Get(messages.HeaderMessageID) != event.ID || event.Type != messages.TypeBackendState || event.Time.IsZero() {
			t.Errorf("an event is %s with the id %q", msg.Data, msg.Header.Get(messages.HeaderMessageID))
		}
		published = append(published, event.Status)
	}
	return published
}

func wantNumbers(t *testing.T, w *world, backend string, want ...messages.Status) {
	t.Helper()
	if got := numbers(t, w, backend); !slices.Equal(got, want) {
		t.Errorf("the states of %s on the bus are %v, want %v", backend, got, want)
	}
}

// awaitEnd follows a backend until it has terminated and gives the last event.
func awaitEnd(t *testing.T, w *world, backend string) (last messages.StateEvent) {
	t.Helper()
	for event, err := range client.New(w.nc).Watch(testkit.Context(t), backend) {
		must(t, err)
		last = event
	}
	if last.Status != messages.Terminated {
		t.Fatalf("%s ends with %+v", backend, last)
	}
	return last
}
