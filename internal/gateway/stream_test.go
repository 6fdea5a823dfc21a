package gateway_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/internal/gateway"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/messages"
)

// withoutWorkers is a gateway on a NATS server with the streams and nobody to answer: what it streams is what a test
// publishes.
type withoutWorkers struct {
	*fixture
	js jetstream.JetStream
}

func startWithoutWorkers(t testing.TB, url string, change ...func(*gateway.Config)) *withoutWorkers {
	t.Helper()
	if url == "" {
		url = natstest.Server(t).URL()
	}
	js := natstest.JetStream(t, natstest.Conn(t, url))
	natstest.Insist(t, func() error { return bus.EnsureStreams(testkit.Context(t), js, bus.Streams{}) })
	return &withoutWorkers{startOn(t, url, change...), js}
}

// publish puts states of a backend into the stream of events.
func (w *withoutWorkers) publish(backend string, states ...messages.Status) {
	w.t.Helper()
	for _, s := range states {
		event := messages.NewStateEvent(backend, time.Now(), messages.State{Status: s})
		_, err := w.js.Publish(testkit.Context(w.t), messages.BackendEventSubject(backend), messages.Encode(event))
		must(w.t, err)
	}
}

// I5: a stream of one backend has each of its states, in order, once, and ends with it, whenever it began; who comes
// back goes on where he was.
func TestI5AStreamOfOneBackendHasAllItsStatesAndEnds(t *testing.T) {
	t.Parallel()
	w := startWithoutWorkers(t, "")
	early := w.open("/pub/b/b1/status-stream") // before there is anything
	w.publish("b1", messages.Statuses[:3]...)
	_, err := w.nc.Subscribe(messages.SubjectStatus, answerWith(messages.BackendInfo{BackendID: "b1", State: messages.State{Status: messages.Starting}}))
	must(t, err)
	middle := w.open("/v1/backends/b1/events")
	var id string
	for range 3 {
		id = middle.next().id
	}
	back := w.open("/v1/backends/b1/events", "Last-Event-ID", id)
	w.publish("b1", messages.Statuses[2:]...) // one of them twice
	late := w.open("/v1/backends/b1/events")
	for name, c := range map[string]struct {
		s    *stream
		want []messages.Status
	}{"early": {early, messages.Statuses}, "middle": {middle, messages.Statuses[3:]}, "back": {back, messages.Statuses[3:]}, "late": {late, messages.Statuses}} {
		var got []messages.Status
		for e := range c.s.events {
			var s struct{ Status messages.Status }
			must(t, json.Unmarshal([]byte(e.data), &s))
			got = append(got, s.Status)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s saw %v", name, got)
		}
	}
	if got := w.ask("GET", "/v1/backends/b1/events", "", "Accept", "text/event-stream", "Last-Event-ID", "7.b1.70"); got.status != http.StatusNoContent {
		t.Errorf("after the end: %d", got.status)
	}
}

// A stream of all goes on where it was, at any gateway, and says where it cannot.
func TestAStreamOfAllGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	url := natstest.Server(t).URL()
	w := startWithoutWorkers(t, url)
	s := w.open("/v1/events")
	testkit.Eventually(t, "the stream is live", func() bool { w.publish("warm", messages.Scheduled); return w.g.Watching() == 1 })
	s.next()
	w.publish("a1", messages.Scheduled, messages.Loading)
	first := s.next()
	if e := first.state(t); e.BackendID != "a1" || e.Status != messages.Scheduled {
		t.Fatalf("the stream has %+v", first)
	}
	// At this gateway, which has it in memory, and at one that was started since, which reads it from the bus.
	other := startOn(t, url)
	w.publish("a2", messages.Scheduled)
	for name, f := range map[string]*fixture{"this": w.fixture, "another": other} {
		back := f.open("/v1/events", "Last-Event-ID", first.id)
		if a, b := back.next().state(t), back.next().state(t); a.ID != "a1.20" || b.ID != "a2.10" {
			t.Errorf("%s gateway goes on with %s, %s", name, a.ID, b.ID)
		}
		w.publish("a3-"+name, messages.Scheduled)
		for e := back.next().state(t); e.ID != "a3-"+name+".10"; e = back.next().state(t) {
			if !strings.HasPrefix(e.ID, "a3-") {
				t.Errorf("%s gateway goes on with %s", name, e.ID)
			}
		}
	}
	place, _, _ := strings.Cut(first.id, ".")
	lost := other.open("/v1/events", "Last-Event-ID", place+".somebody-else.10") // of a stream that was made anew
	if e := lost.next(); e.name != "reset" {
		t.Errorf("of another stream it goes on with %+v", e)
	}
	w.publish("a4", messages.Scheduled)
	if e := lost.next().state(t); e.ID != "a4.10" {
		t.Errorf("after the reset: %s", e.ID)
	}
}

// NATS goes away in the middle of a stream, and comes back: the stream says so, stays, and has all that happened.
func TestI5StreamsOutliveTheBus(t *testing.T) {
	t.Parallel()
	server := natstest.Server(t)
	link := testkit.NewFaultProxy(t, strings.TrimPrefix(server.URL(), "nats://"))
	direct := startWithoutWorkers(t, server.URL())
	f := startOn(t, "nats://"+link.Addr())
	s := f.open("/v1/events")
	one := f.open("/pub/b/n1/status-stream")
	waitLive(t, s, true)
	direct.publish("n1", messages.Scheduled)
	s.next()
	link.Cut()
	waitLive(t, s, false)
	direct.publish("n1", messages.Loading, messages.Starting)
	link.Heal()
	for _, want := range []string{"n1.20", "n1.30"} {
		if e := s.next().state(t); e.ID != want {
			t.Errorf("after the gap %s, wanted %s", e.ID, want)
		}
	}
	for _, want := range messages.Statuses[:3] {
		if e := one.next(); e.id != want.String() {
			t.Errorf("of the backend %s, wanted %s", e.id, want)
		}
	}
}

func waitLive(t testing.TB, s *stream, live bool) {
	t.Helper()
	for e := range s.events {
		if e.name == "live" && e.data == fmt.Sprintf(`{"live":%t}`, live) {
			return
		}
	}
	t.Fatal("the stream has ended")
}

// I8: one who does not read is cut, and nobody waits for him.
func TestI8OneWhoDoesNotReadIsCut(t *testing.T) {
	t.Parallel()
	w := startWithoutWorkers(t, "")
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
	must(t, err)
	defer conn.Close()
	must(t, conn.(*net.TCPConn).SetReadBuffer(4096))
	_, err = io.WriteString(conn, "GET /v1/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
	must(t, err)
	reader := w.open("/v1/events")
	testkit.Eventually(t, "both watch", func() bool { return w.g.Watching() == 2 })
	message := strings.Repeat("x", messages.MaxText)
	n := 0
	testkit.Eventually(t, "the one who does not read is cut", func() bool {
		for range 200 {
			n++
			event := messages.NewStateEvent(fmt.Sprintf("f%d", n), time.Now(), messages.State{Status: messages.Terminated, Message: message})
			_, err := w.js.PublishAsync(messages.BackendEventSubject(event.BackendID), messages.Encode(event))
			must(t, err)
		}
		<-w.js.PublishAsyncComplete()
		for range 200 {
			reader.next()
		}
		return w.g.Watching() == 1
	})
}

// I8: streams are bounded, in all and of one asker, and the one too many is told when to come again.
func TestI8StreamsAreBounded(t *testing.T) {
	t.Parallel()
	w := startWithoutWorkers(t, "", func(c *gateway.Config) { c.MaxStreams = 6 })
	for i := range 3 {
		w.open(fmt.Sprintf("/pub/b/s%d/status-stream", i))
	}
	got := w.ask("GET", "/v1/events", "", "Accept", "text/event-stream")
	want(t, got, 503, `"kind":"Overloaded"`)
	if got.header.Get("Retry-After") == "" {
		t.Error("it does not say when to come again")
	}
}

// Lines are streamed from where one was, and end with the backend.
func TestLinesAreStreamedUntilTheEnd(t *testing.T) {
	t.Parallel()
	f := start(t)
	b := f.connect(`{"key":{"name":"logs-1"},"spawn_config":{"executable":{"fake":{"print":["one","two","three"]}}}}`)
	f.await(b.BackendID, messages.Ready)
	path := "/v1/backends/" + b.BackendID + "/logs"
	s := f.open(path)
	var ids []string
	for _, line := range []string{"one", "two", "three"} {
		e := s.next()
		if !strings.Contains(e.data, `"line":"`+line+`"`) {
			t.Errorf("the line is %s, wanted %s", e.data, line)
		}
		ids = append(ids, e.id)
	}
	back := f.open(path, "Last-Event-ID", ids[0])
	if e := back.next(); e.id != ids[1] || !strings.Contains(e.data, "two") {
		t.Errorf("it goes on with %+v", e)
	}
	last := f.open(path + "?tail=1")
	if e := last.next(); !strings.Contains(e.data, "three") {
		t.Errorf("the last line is %+v", e)
	}
	if lines := into[gateway.Lines](t, f.ask("GET", path+"?tail=2", "", "Accept", "application/json")); len(lines.Lines) != 2 || lines.Lines[0].Line != "two" {
		t.Errorf("the last lines are %+v", lines)
	}
	want(t, f.ask("POST", "/v1/terminate", `{"backend_id":"`+b.BackendID+`"}`), 200, "")
	for e := range s.events {
		if e.name == "end" {
			return
		}
	}
	t.Error("the stream did not say that it is over")
}

// I8: thousands who watch cost the NATS server no consumer and no subscription each, and little memory. Not beside other tests, whose
// memory this would measure.
func TestI8MemoryOfAStreamIsBounded(t *testing.T) {
	w := startWithoutWorkers(t, "")
	w.publish("m1", messages.Scheduled)
	n := testkit.Sized(t, 200, 1000)
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	grow := func(path string) {
		t.Helper()
		before := len(conns)
		buf := make([]byte, 512)
		for range n {
			conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
			must(t, err)
			conns = append(conns, conn)
			_, err = io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nAuthorization: Bearer jwt0_"+strings.Repeat("x", 43)+"\r\n\r\n")
			must(t, err)
			_, err = conn.Read(buf)
			must(t, err)
		}
		testkit.Eventually(t, "all watch", func() bool { return w.g.Watching() >= len(conns)-before })
	}
	for _, path := range []string{"/pub/b/m1/status-stream", "/v1/events"} {
		grow(path) // with what is allocated for the first ones alone
		before := heap()
		grow(path)
		each := (heap() - before) / int64(n)
		t.Logf("%s: with %d more one takes %d bytes", path, n, each)
		if each > 12<<10 {
			t.Errorf("%s: with %d more one takes %d bytes", path, n, each)
		}
	}
	for _, name := range []string{messages.StreamEvents, messages.StreamLogs} {
		stream, err := w.js.Stream(testkit.Context(t), name)
		must(t, err)
		if n := stream.CachedInfo().State.Consumers; n != 0 {
			t.Errorf("%s has %d consumers", name, n)
		}
	}
	if n := w.nc.NumSubscriptions(); n > 4 {
		t.Errorf("the gateway has %d subscriptions", n)
	}
}

// heap is what lives, in bytes, stacks included.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// answerWith answers requests with one payload.
func answerWith(payload any) nats.MsgHandler {
	return func(m *nats.Msg) { _ = m.Respond(messages.Encode(payload)) }
}
