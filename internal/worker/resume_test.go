package worker_test

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/worker"
	"github.com/jetway-project/jetway/messages"
)

// resumable asks for a key that outlives its backends.
func resumable(name string) messages.ConnectRequest {
	req, hour := static(name), int64(3600)
	req.SpawnConfig.ResumeSeconds = &hour
	return req
}

// visits asks for a token as often as that, all at once, and gives the replies.
func (w *world) visits(token string, often int) (replies []<-chan *nats.Msg) {
	for range often {
		replies = append(replies, w.send(messages.RouteSubject("px-test"), messages.Encode(messages.RouteRequest{Token: token}), nil))
	}
	return replies
}

// I1, I7 and the demand: a thousand visitors of a dormant URL, at two workers, get one backend, and every one a route to it. The events say what went on.
func TestI1HerdOfVisitorsAtADormantURLGetsOneBackend(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	startWorker(t, w, "wo-a", options{})
	startWorker(t, w, "wo-b", options{})
	p := startPeer(t, w, "dr-a")
	first := w.connect(resumable("k"))
	p.report(first.BackendID, messages.Ready, messages.Terminated)
	if data, refusal := w.ask(messages.RouteSubject("px-test"), messages.RouteRequest{Token: first.Token, Open: true}); refusal == nil || refusal.Kind != messages.NotFound {
		t.Fatalf("a question about what is open is answered %s, %v", data, refusal)
	}
	events := make(chan messages.StateEvent, 64)
	sub, err := w.nc.Subscribe(messages.SubjectAnyBackendEvent, func(msg *nats.Msg) {
		if event, err := messages.Decode[messages.StateEvent](msg.Data); err == nil {
			events <- event
		}
	})
	must(t, err)
	defer func() { _ = sub.Unsubscribe() }()
	var next string
	for i, reply := range w.visits(first.Token, 1000) {
		data, refusal := w.await(reply)
		if refusal != nil {
			t.Fatalf("visitor %d is refused: %v", i, refusal)
		}
		route := as[messages.RouteResponse](t, data)
		if next == "" {
			next = route.BackendID
		}
		if route.BackendID != next || next == first.BackendID || route.Status != messages.Scheduled || !route.Resumable || route.Key.Name != "k" {
			t.Fatalf("visitor %d is led to %+v, the first to %s", i, route, next)
		}
	}
	if n := w.count("backend where name = 'k'"); n != 2 {
		t.Errorf("%d backends there were, want the first and the next", n)
	}
	event := testkit.Receive(t, events, "the event")
	if event.BackendID != next || event.Status != messages.Scheduled || event.Resumes != first.BackendID {
		t.Errorf("the event of its start is %+v", event)
	}
	if got := p.awaitAction(next, next+".spawn").Spawn; got.StaticToken != first.Token || got.Key.Name != "k" {
		t.Errorf("its drone is told %+v", got)
	}

	// Whose backend is leaving waits for the end, as a connect does.
	p.report(next, messages.Ready)
	if _, refusal := w.ask(messages.SubjectTerminate, messages.TerminateRequest{Key: &messages.Key{Name: "k"}}); refusal != nil {
		t.Fatal(refusal)
	}
	waiting := w.visits(first.Token, 1)[0]
	if data, refusal := w.ask(messages.RouteSubject("px-test"), messages.RouteRequest{Token: first.Token, Open: true}); refusal != nil || as[messages.RouteResponse](t, data).BackendID != next {
		t.Errorf("a question about what is open is answered %s, %v", data, refusal)
	}
	p.report(next, messages.Terminating, messages.Terminated)
	data, refusal := w.await(waiting)
	if refusal != nil {
		t.Fatal(refusal)
	}
	third := as[messages.RouteResponse](t, data)
	if third.BackendID == next || third.BackendID == first.BackendID {
		t.Errorf("who waited is led to %+v", third)
	}
	for event = range events {
		if event.BackendID == next && event.Status == messages.Terminated {
			break
		}
	}
	if event.DormantUntil == nil || event.DormantUntil.Sub(event.Time).Hours() != 1 {
		t.Errorf("the event of its end says that its key is dormant until %v", event.DormantUntil)
	}

	// Forgotten by its key, once there is no backend: the token leads nowhere.
	p.report(third.BackendID, messages.Ready, messages.Terminated)
	if _, refusal := w.ask(messages.SubjectTerminate, messages.TerminateRequest{Key: &messages.Key{Name: "k"}, Forget: true}); refusal != nil {
		t.Fatal(refusal)
	}
	if route, ok := w.route(first.Token); ok {
		t.Errorf("the token of a forgotten key leads to %+v", route)
	}
	if _, refusal := w.ask(messages.SubjectTerminate, messages.TerminateRequest{Key: &messages.Key{Name: "nobody's"}, Forget: true}); refusal == nil || refusal.Kind != messages.NotFound {
		t.Errorf("an unknown key is forgotten: %v", refusal)
	}
}

// The demand: who cannot be led to a dormant key's backend is told why, as a connect is.
func TestAVisitorIsToldWhyADormantKeyDoesNotStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	startWorker(t, w, "wo-a", options{})
	p := startPeer(t, w, "dr-a")
	resp := w.connect(resumable("k"))
	crash := func(backend string) {
		code := 1
		if refusal := p.tryReport(messages.Report{BackendID: backend, State: messages.State{Status: messages.Terminated, ExitCode: &code}}); refusal != nil {
			t.Fatal(refusal)
		}
	}
	for range 2 {
		crash(resp.BackendID)
		resp.BackendID = w.mustRoute(resp.Token).BackendID
	}
	crash(resp.BackendID)
	_, err := w.db.Exec(t.Context(), `update lease set retry_at = retry_at + interval '1 minute'`) // however slow the machine is
	must(t, err)
	_, refusal := w.ask(messages.RouteSubject("px-test"), messages.RouteRequest{Token: resp.Token})
	if refusal == nil || refusal.Kind != messages.BackingOff || refusal.RetryAfterMS < 1 || refusal.LastWords == "" {
		t.Errorf("of a key that rests it is told %+v", refusal)
	}
	if _, refusal := w.ask(messages.SubjectRetry, messages.RetryRequest{Key: messages.Key{Name: "k"}}); refusal != nil {
		t.Fatal(refusal)
	}
	if _, refusal := w.ask(messages.SubjectDrain, messages.DrainRequest{Drone: "dr-a"}); refusal != nil {
		t.Fatal(refusal)
	}
	_, refusal = w.ask(messages.RouteSubject("px-test"), messages.RouteRequest{Token: resp.Token})
	if refusal == nil || refusal.Kind != messages.NoDroneAvailable || refusal.Reason != string(messages.NoDroneDraining) {
		t.Errorf("of a key whose drones drain it is told %+v", refusal)
	}
}

// mustRoute wants a token to lead somewhere.
func (w *world) mustRoute(token string) messages.RouteResponse {
	w.t.Helper()
	data, refusal := w.ask(messages.RouteSubject("px-test"), messages.RouteRequest{Token: token})
	if refusal != nil {
		w.t.Fatalf("the token leads nowhere: %v", refusal)
	}
	return as[messages.RouteResponse](w.t, data)
}

// I8: who asks to be resumed without what it takes is told what is missing, and so is who forgets without saying what.
func TestBadRequestsOfResume(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	startWorker(t, w, "wo-a", options{})
	for text, want := range map[string]string{
		`{"spawn_config":{"executable":{},"use_static_token":true,"resume_seconds":5}}`:                                      "needs a key",
		`{"key":{"name":"k"},"spawn_config":{"executable":{},"resume_seconds":5}}`:                                           "use_static_token",
		`{"key":{"name":"k"},"spawn_config":{"executable":{},"use_static_token":true,"resume_seconds":0}}`:                   "1 to",
		`{"key":{"name":"k"},"spawn_config":{"executable":{},"use_static_token":true,"resume_seconds":5},"user":"somebody"}`: "user",
	} {
		if _, refusal := w.ask(messages.SubjectConnect, text); refusal == nil || refusal.Kind != messages.BadRequest || !strings.Contains(refusal.Message, want) {
			t.Errorf("%s: %v", text, refusal)
		}
	}
	for _, text := range []string{`{"forget":true}`, `{"backend_id":"b","key":{"name":"k"},"forget":true}`} {
		if _, refusal := w.ask(messages.SubjectTerminate, text); refusal == nil || refusal.Kind != messages.BadRequest {
			t.Errorf("%s: %v", text, refusal)
		}
	}
}

// I1, I6: the URL of a key whose drone is lost leads to a backend on another one, as soon as the lease is over, and not before.
func TestI1URLOfALostDroneLeadsToTheNext(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	startWorker(t, w, "wo-a", options{change: func(c *worker.Config) { c.SweepEvery = time.Hour }}) // who comes need not wait for the sweep
	a := startPeer(t, w, "dr-a")
	first := w.connect(resumable("k"))
	a.report(first.BackendID, messages.Ready)
	startPeer(t, w, "dr-b")
	if route := w.mustRoute(first.Token); route.BackendID != first.BackendID || !route.Resumable {
		t.Fatalf("before, it leads to %+v", route)
	}
	elapse(t, w, "dr-a", 2*longTTL)
	next := w.mustRoute(first.Token)
	if next.BackendID == first.BackendID || next.Status != messages.Scheduled {
		t.Fatalf("it leads to %+v", next)
	}
	if info := w.status(next.BackendID); info.Drone != "dr-b" || info.Resumes != first.BackendID {
		t.Errorf("the next one is %+v", info)
	}
	if info := w.status(first.BackendID); info.Status != messages.Terminated || info.Reason != messages.ReasonLost {
		t.Errorf("the first one is %+v", info)
	}
	if again := w.connect(messages.ConnectRequest{Key: &messages.Key{Name: "k"}}); again.BackendID != next.BackendID || again.URL != first.URL {
		t.Errorf("who joins gets %+v", again)
	}
}
