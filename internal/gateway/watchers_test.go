package gateway_test

import (
	"bufio"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/gateway"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/messages"
)

// watch opens a stream by hand, as cheaply as can be, and reads its head.
func (f *fixture) watch(path string) (net.Conn, *bufio.Reader) {
	f.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(f.url, "http://"))
	must(f.t, err)
	_, err = io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
	must(f.t, err)
	in := bufio.NewReaderSize(conn, 512)
	for line := ""; line != "\r\n"; {
		line, err = in.ReadString('\n')
		must(f.t, err)
	}
	return conn, in
}

// openFiles is how many files this process may have open.
func openFiles(t *testing.T) int {
	t.Helper()
	var limit syscall.Rlimit
	must(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	return int(min(limit.Cur, 1<<20))
}

// I5, I8: of thousands who watch one backend everybody gets each state, once and in order, and sees the end; one of them who does not
// read costs nobody anything; and the second half of them takes no more memory each than the first.
func TestI5I8ThousandsWatchOneBackend(t *testing.T) {
	n := testkit.Sized(t, 100, min(10000, openFiles(t)/2-500)) // each has a file at both ends
	w := startWithoutWorkers(t, "", func(c *gateway.Config) {
		c.MaxStreams = 2*n + 10
		c.Slow(testkit.Patience, time.Second)
	})
	w.publish("crowd", messages.Scheduled)
	conns, readers := make([]net.Conn, n), make([]*bufio.Reader, n)
	defer func() {
		for _, c := range conns {
			if c != nil {
				_ = c.Close()
			}
		}
	}()
	grow := func(from, to int) int64 {
		before := heap()
		for i := from; i < to; i++ {
			conns[i], readers[i] = w.watch("/pub/b/crowd/status-stream")
		}
		testkit.Eventually(t, "all watch", func() bool { return w.g.Watching() == to })
		return heap() - before
	}
	first, second := grow(0, n/2), grow(n/2, n)
	t.Logf("the first %d take %d bytes each, as many more %d", n/2, first/int64(n/2), second/int64(n/2))
	if second > 3*first/2 && second/int64(n/2) > 12<<10 {
		t.Errorf("the first %d take %d bytes, as many more %d", n/2, first, second)
	}
	info, err := w.js.Stream(testkit.Context(t), messages.StreamEvents)
	must(t, err)
	if consumers := info.CachedInfo().State.Consumers; consumers != 0 || w.nc.NumSubscriptions() > 4 {
		t.Errorf("they cost the NATS server %d consumers and %d subscriptions", consumers, w.nc.NumSubscriptions())
	}
	// The last of them reads nothing of what follows.
	w.publish("crowd", messages.Statuses[1:]...)
	for i, in := range readers[:n-1] {
		_ = conns[i].SetReadDeadline(time.Now().Add(testkit.Patience))
		var ids []string
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				break // the end, after the last chunk
			}
			if id, ok := strings.CutPrefix(line, "id: "); ok {
				ids = append(ids, strings.TrimSpace(id))
			}
		}
		if got := strings.Join(ids, " "); got != "scheduled loading starting waiting ready terminating hard-terminating terminated" {
			t.Fatalf("watcher %d has %s", i, got)
		}
	}
	testkit.Eventually(t, "nobody watches", func() bool { return w.g.Watching() == 0 })
}

// Workers go away in the middle of a stream: what is published is sent on, the gateway says that it cannot tell the rest, and when
// they are back it goes on by itself.
func TestI5StreamsOutliveTheWorkers(t *testing.T) {
	t.Parallel()
	w := startWithoutWorkers(t, "", func(c *gateway.Config) { c.Unsure(20 * time.Millisecond) })
	answers, err := w.nc.Subscribe(messages.SubjectStatus, answerWith(messages.BackendInfo{BackendID: "u1", State: messages.State{Status: messages.Scheduled}}))
	must(t, err)
	w.publish("u1", messages.Scheduled)
	one, every := w.open("/v1/backends/u1/events"), w.open("/v1/events")
	one.is(messages.Scheduled)
	waitLive(t, every, true)
	must(t, answers.Unsubscribe())
	must(t, w.nc.FlushWithContext(testkit.Context(t)))
	w.publish("u1", messages.Loading)
	one.is(messages.Loading)
	every.is(messages.Loading)
	want(t, w.ask("GET", "/v1/backends/u1", ""), 503, "no worker answers")
	got := w.ask("GET", "/v1/backends/u1/events", "", "Accept", "text/event-stream", "Last-Event-ID", "1.u1.10")
	want(t, got, 503, `"kind":"Unavailable"`)
	if got.header.Get("Retry-After") == "" {
		t.Error("it does not say when to come again")
	}
	// What no event has told, a worker does.
	_, err = w.nc.Subscribe(messages.SubjectStatus, answerWith(messages.BackendInfo{BackendID: "u1", State: messages.State{Status: messages.Terminated}, ChangedAt: time.Now()}))
	must(t, err)
	back := w.open("/v1/backends/u1/events", "Last-Event-ID", "1.u1.10")
	back.is(messages.Loading, messages.Terminated)
	if _, more := <-back.events; more {
		t.Error("it goes on after the end")
	}
}

// The NATS server is replaced by an empty one in the middle of streams: that of all says that the gateway does not hear the bus, and
// then goes on; that of one backend has what a worker knows.
func TestI5StreamsOutliveAnEmptyBus(t *testing.T) {
	t.Parallel()
	server := natstest.Own(t)
	w := startWithoutWorkers(t, server.URL(), func(c *gateway.Config) { c.Unsure(20 * time.Millisecond) })
	w.publish("e1", messages.Scheduled)
	every, one := w.open("/v1/events"), w.open("/pub/b/e1/status-stream")
	one.is(messages.Scheduled)
	waitLive(t, every, true)
	server.Replace()
	waitLive(t, every, false)
	waitLive(t, every, true)
	worker := startWithoutWorkers(t, server.URL()) // which makes the streams
	_, err := worker.nc.Subscribe(messages.SubjectStatus, answerWith(messages.BackendInfo{BackendID: "e1", State: messages.State{Status: messages.Ready}, ChangedAt: time.Now()}))
	must(t, err)
	one.is(messages.Ready) // by the worker's word: no event of it was heard
	worker.publish("e1", messages.Terminated)
	one.is(messages.Terminated)
	every.is(messages.Terminated)
	late := every.next // nothing is lost after it either
	worker.publish("e2", messages.Scheduled)
	if e := late().state(t); e.ID != "e2.10" {
		t.Errorf("the stream has %+v", e)
	}
	if _, more := <-one.events; more {
		t.Error("the stream of one goes on after the end")
	}
}

// A gateway is stopped in the middle of a stream, and its client goes on at another one, without a gap.
func TestI5AStreamGoesOnAtAnotherGateway(t *testing.T) {
	t.Parallel()
	url := natstest.Server(t).URL()
	other := startWithoutWorkers(t, url)
	other.publish("g1", messages.Scheduled)
	f := startOn(t, url)
	one, every := f.open("/pub/b/g1/status-stream"), f.open("/v1/events")
	waitLive(t, every, true)
	other.publish("g1", messages.Loading)
	one.is(messages.Scheduled)
	lastOne, lastAll := one.next().id, every.next().id
	f.stop()
	for _, s := range []*stream{one, every} {
		for range s.events { // until it is cut
		}
	}
	other.publish("g1", messages.Starting, messages.Terminated)
	other.open("/pub/b/g1/status-stream", "Last-Event-ID", lastOne).is(messages.Starting, messages.Terminated)
	other.open("/v1/events", "Last-Event-ID", lastAll).is(messages.Starting, messages.Terminated)
}
