package proxy

import (
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/messages"
)

// worker answers on the proxy's subjects as workers do.
type worker struct {
	t          testing.TB
	nc         *nats.Conn
	mu         sync.Mutex
	routes     map[string]messages.RouteResponse
	gate       chan struct{} // if set, answers wait for it
	failing    bool          // keepalives are refused
	away       bool          // Postgres is, so routes are refused
	refusals   map[string]messages.Error
	asked      chan string // tokens, as they come
	keepalives chan []string
}

func newWorker(t testing.TB, url string) *worker {
	t.Helper()
	wk := &worker{t: t, routes: make(map[string]messages.RouteResponse), asked: make(chan string, 10000), keepalives: make(chan []string, 1000)}
	nc := natstest.Conn(t, url)
	wk.nc = nc
	_, err := nc.Subscribe(messages.SubjectAnyRoute, wk.answerRoute)
	must(t, err)
	_, err = nc.Subscribe(messages.SubjectAnyKeepalive, wk.answerKeepalive)
	must(t, err)
	must(t, nc.FlushTimeout(testkit.Patience))
	return wk
}

func (wk *worker) route(token string, r messages.RouteResponse) {
	wk.mu.Lock()
	defer wk.mu.Unlock()
	wk.routes[token] = r
}

// refuses has a token be refused.
func (wk *worker) refuses(token string, with messages.Error) {
	wk.mu.Lock()
	defer wk.mu.Unlock()
	if wk.refusals == nil {
		wk.refusals = make(map[string]messages.Error)
	}
	wk.refusals[token] = with
}

func (wk *worker) forget(token string) {
	wk.mu.Lock()
	defer wk.mu.Unlock()
	delete(wk.routes, token)
}

// block makes answers wait until the function it gives is called. What is
// answered is what was known when the question came.
func (wk *worker) block() (release func()) {
	gate := make(chan struct{})
	wk.mu.Lock()
	defer wk.mu.Unlock()
	wk.gate = gate
	return sync.OnceFunc(func() {
		wk.mu.Lock()
		wk.gate = nil
		wk.mu.Unlock()
		close(gate)
	})
}

func (wk *worker) answerRoute(msg *nats.Msg) {
	req, err := messages.Decode[messages.RouteRequest](msg.Data)
	if err != nil {
		wk.t.Errorf("route request: %v", err)
	}
	if from, err := messages.SenderOf(msg.Subject); err != nil || from != "px-test" {
		wk.t.Errorf("route request from %q: %v", from, err)
	}
	wk.mu.Lock()
	r, ok := wk.routes[req.Token]
	gate, away := wk.gate, wk.away
	refusal, refused := wk.refusals[req.Token]
	wk.mu.Unlock()
	wk.asked <- req.Token
	if gate != nil {
		<-gate
	}
	if away {
		wk.refuse(msg, messages.Errorf(messages.Unavailable, "no database"))
		return
	}
	if refused {
		wk.refuse(msg, &refusal)
		return
	}
	if !ok {
		wk.refuse(msg, messages.Errorf(messages.NotFound, "no such token"))
		return
	}
	_ = msg.Respond(messages.Encode(r))
}

func (wk *worker) refuse(msg *nats.Msg, e *messages.Error) {
	e.ID = "id1"
	reply := nats.NewMsg(msg.Reply)
	reply.Header.Set(messages.HeaderError, e.Message)
	reply.Header.Set(messages.HeaderErrorCode, e.CodeString())
	reply.Data = messages.Encode(e)
	_ = wk.nc.PublishMsg(reply)
}

func (wk *worker) answerKeepalive(msg *nats.Msg) {
	req, err := messages.Decode[messages.KeepaliveRequest](msg.Data)
	if err != nil {
		wk.t.Errorf("keepalive: %v", err)
	}
	wk.mu.Lock()
	failing := wk.failing
	wk.mu.Unlock()
	wk.keepalives <- req.Backends
	if failing {
		wk.refuse(msg, messages.Errorf(messages.Unavailable, "no database"))
		return
	}
	_ = msg.Respond([]byte("{}"))
}

// reaches records a backend's state and publishes the event.
func (wk *worker) reaches(id string, status messages.Status, address string) {
	wk.mu.Lock()
	for token, r := range wk.routes {
		if r.BackendID != id {
			continue
		}
		r.Status, r.Address = status, address
		if wk.routes[token] = r; status == messages.Terminated {
			delete(wk.routes, token)
		}
	}
	wk.mu.Unlock()
	wk.publish(id, status)
}

func (wk *worker) publish(id string, status messages.Status) {
	event := messages.NewStateEvent(id, time.Now(), messages.State{Status: status})
	must(wk.t, wk.nc.Publish(messages.BackendEventSubject(id), messages.Encode(event)))
	must(wk.t, wk.nc.FlushTimeout(testkit.Patience))
}

// asks counts the questions so far and forgets them.
func (wk *worker) asks() int {
	n := 0
	for {
		select {
		case <-wk.asked:
			n++
		default:
			return n
		}
	}
}
