package conformance_test

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/messages"
)

// stranger is a drone as somebody else may write it from PROTOCOL.md: on NATS and JSON alone, with HTTP servers of its own for
// backends. It is right but for the one fault that it is given.
type stranger struct {
	name, fault string
	nc          *nats.Conn
	began       time.Time

	mu       sync.Mutex
	session  string
	every    time.Duration
	soft     int64
	hard     int64
	backends map[string]*server
	ended    map[string]bool
	reports  []messages.Report // unanswered, in order
	wake     chan struct{}
}

type server struct {
	http   *http.Server
	addr   string
	sealed bool
	hard   int64 // of what is sealed
	nap    int64
	frozen chan struct{} // while it sleeps: closed when it wakes
}

// runStranger runs one until the test ends.
func runStranger(t *testing.T, nc *nats.Conn, name, fault string) {
	t.Helper()
	s := &stranger{name: name, fault: fault, nc: nc, began: time.Now().Add(-time.Hour), backends: map[string]*server{}, ended: map[string]bool{}, wake: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	sub, err := nc.Subscribe("_INBOX."+name+".actions", s.onAction)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for _, loop := range []func(context.Context){s.beat, s.report, s.watch} {
		all.Go(func() { loop(ctx) })
	}
	t.Cleanup(func() {
		cancel()
		_ = sub.Unsubscribe()
		all.Wait()
		s.mu.Lock()
		defer s.mu.Unlock()
		for id := range s.backends {
			s.killLocked(id)
		}
	})
}

func (s *stranger) nowMS() int64 {
	if s.fault == "drone-time" {
		return time.Since(s.began).Milliseconds() * 3
	}
	return time.Since(s.began).Milliseconds()
}

// ask gives a reply, and the kind of the error in it: "away" where none comes.
func (s *stranger) ask(ctx context.Context, verb string, req, resp any) (kind string, backends []string) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	data, _ := json.Marshal(req)
	msg, err := s.nc.RequestWithContext(ctx, "jetway.drone."+s.name+"."+verb, data)
	if err != nil {
		return "away", nil
	}
	if msg.Header.Get("Nats-Service-Error-Code") != "" {
		var refused struct {
			Kind     string
			Backends []string
		}
		_ = json.Unmarshal(msg.Data, &refused)
		return refused.Kind, refused.Backends
	}
	if s.fault == "unknown-fields" {
		decoder := json.NewDecoder(strings.NewReader(string(msg.Data)))
		decoder.DisallowUnknownFields()
		if decoder.Decode(resp) != nil {
			return "away", nil
		}
		return "", nil
	}
	_ = json.Unmarshal(msg.Data, resp)
	return "", nil
}

func (s *stranger) beat(ctx context.Context) {
	registered, refused := false, false
	for ctx.Err() == nil {
		s.mu.Lock()
		every, session := s.every, s.session
		running := make([]string, 0, len(s.backends))
		for id := range s.backends {
			running = append(running, id)
		}
		s.mu.Unlock()
		var kind string
		if !registered {
			if session = "s" + s.name + time.Now().Format("150405000000"); s.fault == "new-session" {
				running = nil
			}
			req := messages.RegisterRequest{Session: strings.ToLower(session), MachineID: "m1", BootID: "b1", Cluster: "localhost", DroneTimeMS: s.nowMS(), Backends: running, Sleeps: s.fault != "no-sleep"}
			if s.fault == "payloads" && !refused {
				req.GraceMS = -1
			}
			var resp messages.RegisterResponse
			if kind, _ = s.ask(ctx, "register", req, &resp); kind == "" {
				registered = true
				s.take(req.Session, resp.HeartbeatIntervalMS, resp.Renewal, resp.Lost)
				s.retellNaps()
			}
			every, refused = 200*time.Millisecond, refused || kind == "BadRequest"
		} else {
			var resp messages.HeartbeatResponse
			kind, _ = s.ask(ctx, "heartbeat", messages.HeartbeatRequest{Session: strings.ToLower(session), DroneTimeMS: s.nowMS(), Ready: true, Load: messages.Load{Backends: len(running)}}, &resp)
			switch kind {
			case "":
				s.take(session, 0, resp.Renewal, nil)
			case "NotFound":
				registered, every = false, 0
			default:
				every = 100 * time.Millisecond
			}
			if s.fault == "heartbeat" {
				every *= 3
			}
		}
		select {
		case <-time.After(every):
		case <-ctx.Done():
		}
	}
}

func (s *stranger) take(session string, everyMS int64, r messages.Renewal, lost []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.session = session; everyMS > 0 {
		s.every = time.Duration(everyMS) * time.Millisecond
	}
	for _, id := range r.Sealed {
		if b := s.backends[id]; b != nil && !b.sealed && s.fault != "sealed" {
			b.sealed, b.hard = true, s.hard
		}
	}
	s.soft, s.hard = r.Deadlines.SoftTerminateAtMS, r.Deadlines.HardTerminateAtMS
	for _, id := range lost {
		if s.fault != "lost" {
			s.killLocked(id)
			s.ended[id] = true
		}
	}
}

// watch kills at deadlines.
func (s *stranger) watch(ctx context.Context) {
	for ctx.Err() == nil {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return
		}
		s.mu.Lock()
		for id, b := range s.backends {
			due := s.hard
			if b.sealed {
				due = b.hard
			}
			if s.fault != "hard-deadline" && s.nowMS() >= due {
				s.endLocked(id, messages.State{Kind: messages.Hard, Reason: messages.ReasonLost})
			}
		}
		s.mu.Unlock()
	}
}

func (s *stranger) onAction(msg *nats.Msg) {
	if msg.Header.Get("Status") != "" {
		return // an idle heartbeat
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var a messages.Action
	if json.Unmarshal(msg.Data, &a) != nil || messages.CheckBackendID(a.BackendID) != nil || a.Spawn == nil && a.Terminate == nil && a.Nap == 0 {
		if s.fault != "malformed" {
			_ = msg.Ack()
		}
		return
	}
	known := s.backends[a.BackendID] != nil || s.ended[a.BackendID]
	switch {
	case a.Nap > 0:
		s.napLocked(a.BackendID, a.Nap)
	case a.Terminate != nil && s.fault == "sleep-ends" && s.backends[a.BackendID] != nil && s.backends[a.BackendID].frozen != nil:
	case a.Terminate != nil && s.backends[a.BackendID] == nil:
		if !known && s.fault != "terminate-first" {
			s.endLocked(a.BackendID, messages.State{Kind: messages.Soft, Reason: a.Terminate.Reason})
		}
	case a.Terminate != nil:
		state := messages.State{Kind: messages.Soft, Reason: a.Terminate.Reason}
		if a.Terminate.Hard && s.fault != "terminate-hard" {
			state.Kind = messages.Hard
		}
		if s.fault == "terminate-soft" {
			state.Reason = messages.ReasonSwept
		}
		s.endLocked(a.BackendID, state)
	case s.backends[a.BackendID] != nil && s.fault != "spawn-once", s.ended[a.BackendID] && s.fault != "ended-stays":
	case a.Spawn.Session != s.session && s.fault != "other-session", s.nowMS() >= a.Spawn.Deadlines.SoftTerminateAtMS && s.fault != "past-deadline":
		s.endLocked(a.BackendID, messages.State{Reason: messages.ReasonLost})
	default:
		s.startLocked(a.BackendID)
	}
	if s.fault != "acknowledge" {
		_ = msg.Ack()
	}
}

func (s *stranger) startLocked(id string) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.endLocked(id, messages.State{Reason: messages.ReasonStartFailed})
		return
	}
	b := &server{addr: listener.Addr().String()}
	b.http = &http.Server{ReadHeaderTimeout: time.Minute, Handler: s.freezable(b)}
	go func() { _ = b.http.Serve(listener) }()
	if old := s.backends[id]; old != nil {
		_ = old.http.Close()
	}
	s.backends[id] = b
	if s.ended[id] {
		delete(s.ended, id)
	}
	s.queueLocked(id, messages.State{Status: messages.Loading})
	if s.fault == "order" {
		s.queueLocked(id, messages.State{Status: messages.Ready, Address: b.addr})
		s.queueLocked(id, messages.State{Status: messages.Waiting, Address: b.addr})
		return
	}
	s.queueLocked(id, messages.State{Status: messages.Waiting, Address: b.addr})
	s.queueLocked(id, messages.State{Status: messages.Ready, Address: b.addr})
}

func (s *stranger) endLocked(id string, state messages.State) {
	s.killLocked(id)
	s.ended[id] = true
	state.Status = messages.Terminated
	s.queueLocked(id, state)
}

func (s *stranger) killLocked(id string) {
	if b := s.backends[id]; b != nil {
		_ = b.http.Close()
		delete(s.backends, id)
	}
}

func (s *stranger) queueLocked(id string, state messages.State) {
	s.reports = append(s.reports, messages.Report{BackendID: id, State: state})
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// report tells what has become of backends, one after another, each until it is answered.
func (s *stranger) report(ctx context.Context) {
	for ctx.Err() == nil {
		s.mu.Lock()
		session, next := s.session, slices.Clone(s.reports[:min(1, len(s.reports))])
		s.mu.Unlock()
		if len(next) == 0 {
			select {
			case <-s.wake:
			case <-ctx.Done():
			}
			continue
		}
		kind, not := s.ask(ctx, "report", messages.ReportRequest{Session: session, Reports: next}, &messages.Empty{})
		s.mu.Lock()
		switch {
		case kind == "NotFound" && len(not) > 0:
			for _, id := range not {
				if s.fault != "disowned" {
					s.killLocked(id)
					s.ended[id] = true
				}
			}
			fallthrough
		case kind == "", s.fault == "report-repeated":
			s.reports = s.reports[1:]
		}
		s.mu.Unlock()
		if kind != "" {
			select {
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}
}
