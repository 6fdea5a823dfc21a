package bus_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/messages"
	"github.com/jetway-project/jetway/messages/client"
)

// The tests wait more than they work: for a stream's settling, and for servers that restart.
func TestMain(m *testing.M) {
	_ = flag.Set("test.parallel", "12")
	testkit.Main(m)
}

// bareServer gives a NATS server without JetStream.
func bareServer(t *testing.T) string {
	t.Helper()
	ns, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, NoLog: true, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	t.Cleanup(func() {
		ns.Shutdown()
		ns.WaitForShutdown()
	})
	if !ns.ReadyForConnections(testkit.Patience) {
		t.Fatal("the NATS server does not get ready")
	}
	return ns.ClientURL()
}

func watchConn(t *testing.T, url string, opts ...nats.Option) *nats.Conn {
	t.Helper()
	nc, err := bus.Connect(t.Context(), bus.Config{
		URL: url, Name: "test", Options: opts, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// withStreams gives a server with the streams, and where to publish.
func withStreams(t *testing.T) (string, *nats.Conn, jetstream.JetStream) {
	t.Helper()
	url := natstest.Server(t).URL()
	nc := watchConn(t, url)
	js := natstest.JetStream(t, nc)
	natstest.Insist(t, func() error { return bus.EnsureStreams(t.Context(), js, bus.Streams{}) })
	return url, nc, js
}

func eventOf(backend string, status messages.Status) []byte {
	return messages.Encode(messages.NewStateEvent(backend, time.Now(), messages.State{Status: status}))
}

func publishStates(t *testing.T, js jetstream.JetStream, backend string, statuses ...messages.Status) {
	t.Helper()
	for _, status := range statuses {
		if _, err := js.Publish(t.Context(), messages.BackendEventSubject(backend), eventOf(backend, status)); err != nil {
			t.Errorf("publish %s of %s: %v", status, backend, err)
		}
	}
}

// watching runs a Watch and gives what it gives.
func watching(t *testing.T, nc *nats.Conn, backend string) (<-chan messages.Status, <-chan error) {
	t.Helper()
	seen, end := make(chan messages.Status, 100), make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), testkit.Patience)
	done := make(chan struct{})
	t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		var last error
		for event, err := range client.New(nc).Watch(ctx, backend) {
			if err != nil {
				last = err
				break
			}
			seen <- event.Status
		}
		close(seen)
		end <- last
	}()
	return seen, end
}

func expect(t *testing.T, seen <-chan messages.Status, want ...messages.Status) {
	t.Helper()
	for i, status := range want {
		got, ok := <-seen
		if !ok || got != status {
			t.Fatalf("event %d is %s (%v), want %s", i, got, ok, status)
		}
	}
}

func expectEnd(t *testing.T, seen <-chan messages.Status, end <-chan error) {
	t.Helper()
	for status := range seen {
		t.Fatalf("an event too many: %s", status)
	}
	if err := <-end; err != nil {
		t.Fatalf("ended with %v", err)
	}
}

func TestWatchHistoryThenLive(t *testing.T) {
	t.Parallel()
	_, nc, js := withStreams(t)
	publishStates(t, js, "other", messages.Statuses...)
	publishStates(t, js, "b1", messages.Scheduled, messages.Loading)
	seen, end := watching(t, nc, "b1")
	expect(t, seen, messages.Scheduled, messages.Loading)
	publishStates(t, js, "b1", messages.Starting, messages.Ready)
	publishStates(t, js, "other", messages.Terminated)
	expect(t, seen, messages.Starting, messages.Ready)
	publishStates(t, js, "b1", messages.Terminated)
	expect(t, seen, messages.Terminated)
	expectEnd(t, seen, end)

	history, err := client.New(nc).History(t.Context(), "b1")
	if err != nil || len(history) != 5 || history[4].Status != messages.Terminated {
		t.Fatalf("the history is %v, %v", history, err)
	}
	again, end := watching(t, nc, "b1")
	expect(t, again, messages.Scheduled, messages.Loading, messages.Starting, messages.Ready, messages.Terminated)
	expectEnd(t, again, end)
}

// Copies come when a worker crashed between publishing and deleting its row,
// also long after.
func TestWatchDropsCopies(t *testing.T) {
	t.Parallel()
	_, nc, js := withStreams(t)
	publishStates(t, js, "b1", messages.Scheduled, messages.Scheduled, messages.Loading, messages.Scheduled)
	seen, end := watching(t, nc, "b1")
	expect(t, seen, messages.Scheduled, messages.Loading)
	publishStates(t, js, "b1", messages.Loading, messages.Ready, messages.Scheduled, messages.Ready, messages.Terminated)
	expect(t, seen, messages.Ready, messages.Terminated)
	expectEnd(t, seen, end)
}

// I5: watchers that begin while events are published see each of them, in order.
func TestI5WatchDuringPublish(t *testing.T) {
	t.Parallel()
	url, _, js := withStreams(t)
	var wg sync.WaitGroup
	const backends, watchers = 20, 8
	conns := make([]*nats.Conn, 4)
	for i := range conns {
		conns[i] = watchConn(t, url)
	}
	for b := range backends {
		backend := fmt.Sprintf("b%d", b)
		wg.Go(func() { publishStates(t, js, backend, messages.Statuses...) })
		for w := range watchers {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), testkit.Patience)
				defer cancel()
				var got []messages.Status
				for event, err := range client.New(conns[(b+w)%len(conns)]).Watch(ctx, backend) {
					if err != nil {
						t.Errorf("watch: %v", err)
					}
					got = append(got, event.Status)
				}
				if !slices.Equal(got, messages.Statuses) {
					t.Errorf("%s: saw %v", backend, got)
				}
			})
		}
	}
	wg.Wait()
	stream, err := js.Stream(t.Context(), messages.StreamEvents)
	if err != nil {
		t.Fatal(err)
	}
	info, err := stream.Info(t.Context())
	if err != nil || info.State.Consumers != 0 {
		t.Fatalf("%d consumers, %v", info.State.Consumers, err)
	}
}

// cable is a network that can be cut.
type cable struct {
	cut  atomic.Bool
	mu   sync.Mutex
	conn net.Conn
}

func (c *cable) Dial(network, address string) (net.Conn, error) {
	if c.cut.Load() {
		return nil, errors.New("cut")
	}
	conn, err := net.Dial(network, address)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn = conn
	return conn, err
}

func (c *cable) pull() {
	c.cut.Store(true)
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.conn.Close()
}

func TestI5WatchSurvivesReconnect(t *testing.T) {
	t.Parallel()
	url, _, js := withStreams(t)
	wire := new(cable)
	reconnected := make(chan struct{}, 10)
	nc := watchConn(t, url, nats.SetCustomDialer(wire), nats.ReconnectHandler(func(*nats.Conn) { reconnected <- struct{}{} }))
	publishStates(t, js, "b1", messages.Scheduled)
	seen, end := watching(t, nc, "b1")
	expect(t, seen, messages.Scheduled)
	for _, missed := range [][]messages.Status{{messages.Loading, messages.Starting}, {messages.Waiting, messages.Ready}, {}} {
		wire.pull()
		publishStates(t, js, "b1", missed...)
		wire.cut.Store(false)
		<-reconnected
		expect(t, seen, missed...)
	}
	publishStates(t, js, "b1", messages.Terminating, messages.Terminated)
	expect(t, seen, messages.Terminating, messages.Terminated)
	expectEnd(t, seen, end)
}

// An event may be in neither the subscription nor the first reading: it was on
// its way into the stream. Here the stream is slow by design.
func TestI5WatchSlowStream(t *testing.T) {
	t.Parallel()
	nc := watchConn(t, bareServer(t))
	var asked int
	var stored []messages.Status
	sub, err := nc.Subscribe("$JS.API.DIRECT.GET."+messages.StreamEvents, func(m *nats.Msg) {
		var ask struct{ Seq int }
		if err := json.Unmarshal(m.Data, &ask); err != nil {
			t.Errorf("bad question %s", m.Data)
		}
		switch asked++; asked {
		case 1:
			// Live, but what came before it is not in the stream yet.
			if err := nc.Publish(messages.BackendEventSubject("b1"), eventOf("b1", messages.Starting)); err != nil {
				t.Error(err)
			}
		case 3:
			stored = []messages.Status{messages.Scheduled, messages.Loading, messages.Starting}
		}
		reply := nats.NewMsg(m.Reply)
		if ask.Seq > len(stored) {
			reply.Header.Set("Status", "404")
		} else {
			reply.Header.Set(jetstream.SequenceHeader, fmt.Sprint(ask.Seq))
			reply.Data = eventOf("b1", stored[ask.Seq-1])
		}
		_ = m.RespondMsg(reply)
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	seen, end := watching(t, nc, "b1")
	expect(t, seen, messages.Scheduled, messages.Loading, messages.Starting)
	if err := nc.Publish(messages.BackendEventSubject("b1"), eventOf("b1", messages.Terminated)); err != nil {
		t.Fatal(err)
	}
	// Never in the stream: given out all the same, when the stream has had its time.
	expect(t, seen, messages.Terminated)
	expectEnd(t, seen, end)
}

func TestWatchWithoutStream(t *testing.T) {
	t.Parallel()
	for _, url := range []string{natstest.Server(t).URL(), bareServer(t)} {
		nc := watchConn(t, url)
		seen, end := watching(t, nc, "b1")
		for range seen {
			t.Fatal("an event out of nothing")
		}
		err := <-end
		if messages.KindOf(err) != messages.Unavailable || !strings.Contains(err.Error(), messages.StreamEvents+" does not exist") {
			t.Fatalf("ended with %v", err)
		}
	}
}

func TestWatchRefusesNames(t *testing.T) {
	t.Parallel()
	nc := watchConn(t, natstest.Server(t).URL())
	for _, backend := range []string{"", ">", "a.b", "*"} {
		for _, err := range client.New(nc).Watch(t.Context(), backend) {
			if messages.KindOf(err) != messages.BadRequest {
				t.Fatalf("%q: %v", backend, err)
			}
		}
	}
}

func TestWatchEndsWithContextAndConnection(t *testing.T) {
	t.Parallel()
	url, _, js := withStreams(t)
	publishStates(t, js, "b1", messages.Scheduled)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, err := range client.New(watchConn(t, url)).Watch(ctx, "b1") {
		if err == nil {
			cancel()
		} else if !errors.Is(err, context.Canceled) {
			t.Fatalf("ended with %v", err)
		}
	}
	nc := watchConn(t, url)
	for _, err := range client.New(nc).Watch(t.Context(), "b1") {
		if err == nil {
			nc.Close()
		} else if !errors.Is(err, nats.ErrConnectionClosed) {
			t.Fatalf("ended with %v", err)
		}
	}
	// A reader that has seen enough just leaves.
	for _, err := range client.New(watchConn(t, url)).Watch(t.Context(), "b1") {
		if err != nil {
			t.Fatal(err)
		}
		break
	}
}
