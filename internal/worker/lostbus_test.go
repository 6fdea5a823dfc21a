package worker_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/internal/proxy"
	"github.com/jetway-project/jetway/internal/runtime/fake"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/internal/testkit/pgtest"
	"github.com/jetway-project/jetway/messages"
	"github.com/jetway-project/jetway/messages/client"
)

// againAfter is when what may have been lost is asked again.
var againAfter = testkit.Patience / 90

// persistently asks until it is granted, as a web tier would that is told to try again.
func persistently(t *testing.T, nc *nats.Conn, req messages.ConnectRequest) (messages.ConnectResponse, bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testkit.Patience) // for this one, however many come before
	defer cancel()
	for wait := againAfter; ; wait *= 2 { // on a slow machine an answer may take longer than that
		try, cancel := context.WithTimeout(ctx, wait)
		resp, err := client.Request[messages.ConnectResponse](try, nc, messages.SubjectConnect, req)
		cancel()
		if err == nil {
			return resp, true
		}
		if kind := messages.KindOf(err); kind != messages.Unavailable && kind != messages.NoDroneAvailable && ctx.Err() == nil {
			t.Errorf("a connect: %v", err)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return resp, false
		}
	}
}

// startProxy runs a proxy until the test ends, and gives its address.
func startProxy(t *testing.T, url string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	ready := make(chan struct{})
	px, err := proxy.New(proxy.Config{
		Name: "px-a", Listener: listener, DrainTimeout: -1, OnReady: func() { close(ready) }, Log: testkit.Logger(t),
	})
	must(t, err)
	nc, err := bus.Connect(t.Context(), bus.Config{URL: url, Name: "px-a", OnReconnect: px.BusGap, Log: testkit.Logger(t)})
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := px.Run(ctx, nc); err != nil {
			t.Errorf("the proxy: %v", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
		nc.Close()
	})
	<-ready
	return listener.Addr().String()
}

// visit gives the status of a request through a proxy.
func visit(t *testing.T, proxy, token string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+proxy+"/"+token+"/", nil)
	must(t, err)
	req.Host, req.Close = cluster, true
	resp, err := http.DefaultClient.Do(req)
	must(t, err)
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp.StatusCode, string(body)
}

// listening is a backend that listens: all of them are one HTTP server.
func listening(t *testing.T, key string) messages.ConnectRequest {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, key) }))
	t.Cleanup(server.Close)
	req := spawnKey(key)
	req.SpawnConfig.Executable = fake.Script{Address: server.Listener.Addr().String()}.Executable()
	return req
}

// listen hears the states of all backends, and gives what wants each to have been heard of
// for the first time in order (I5): copies may come, and what nobody could hear is missing.
func listen(t *testing.T, w *world) (wantOrder func()) {
	t.Helper()
	var mu sync.Mutex
	heard := map[string][]messages.Status{}
	_, err := w.nc.Subscribe(messages.SubjectAnyBackendEvent, func(msg *nats.Msg) {
		event := as[messages.StateEvent](t, msg.Data)
		mu.Lock()
		defer mu.Unlock()
		if !slices.Contains(heard[event.BackendID], event.Status) {
			heard[event.BackendID] = append(heard[event.BackendID], event.Status)
		}
	})
	must(t, err)
	return func() {
		mu.Lock()
		defer mu.Unlock()
		for backend, states := range heard {
			if !slices.IsSorted(states) {
				t.Errorf("the states of %s came as %v", backend, states)
			}
		}
	}
}

// I3 and I5: NATS comes back empty (in full size twice), and then its streams are deleted, while
// backends are being started. Nobody is restarted, and every connect that was granted
// gets its backend, whose states only go up.
func TestI3I5NATSLosesItsDataMidSpawns(t *testing.T) {
	t.Parallel()
	s := natstest.Own(t)
	w := newWorldOf(t, s.URL(), pgtest.Database(t))
	startWorker(t, w, "wo-a", options{})
	startWorker(t, w, "wo-b", options{})
	startDrone(t, w, "dr-a", w.url)
	startDrone(t, w, "dr-b", w.url)
	px := startProxy(t, w.url)
	early := w.connect(listening(t, "early"))
	if code, body := visit(t, px, early.Token); code != http.StatusOK || body != "early" {
		t.Fatalf("a visit: %d %q", code, body)
	}

	wantOrder := listen(t, w)
	const askers = 16
	keys := testkit.Sized(t, 120, 400)
	asker, err := bus.Connect(testkit.Context(t), bus.Config{URL: w.url, Name: "web", Log: testkit.Logger(t)})
	must(t, err)
	t.Cleanup(asker.Close)
	granted := make([]messages.ConnectResponse, keys)
	var done atomic.Int64
	var asking sync.WaitGroup
	for a := range askers {
		asking.Go(func() {
			for i := a; i < keys; i += askers {
				resp, ok := persistently(t, asker, spawnKey(fmt.Sprintf("doc-%d", i)))
				if !ok {
					t.Errorf("doc-%d was not granted", i)
					return
				}
				granted[i] = resp
				done.Add(1)
			}
		})
	}
	losses := []func(){s.Replace, func() { deleteStreams(t, w) }}
	if testkit.Sized(t, false, true) {
		losses = slices.Insert(losses, 0, s.Replace)
	}
	for i, lose := range losses {
		testkit.Eventually(t, "some are granted", func() bool { return done.Load() >= int64((10*i+4)*keys/40) })
		lose()
	}
	asking.Wait()

	testkit.Eventually(t, "every granted connect has its backend", func() bool {
		return w.count("backend where status < 50") == 0
	})
	if n := w.count("backend where status <> 50"); n != 0 {
		t.Errorf("%d backends have ended", n)
	}
	testkit.Eventually(t, "nothing is left on record", func() bool { return w.count("outbox") == 0 })
	var watching sync.WaitGroup
	ctx := testkit.Context(t)
	for _, g := range granted {
		watching.Go(func() {
			for event, err := range client.New(asker).Watch(ctx, g.BackendID) {
				if err != nil {
					t.Errorf("watch %s: %v", g.BackendID, err)
				}
				if event.Status >= messages.Ready {
					break
				}
			}
		})
	}
	watching.Wait()
	wantOrder()

	// Of what was ready all the time no event is left, and it is served all the same.
	history, err := client.New(asker).History(ctx, early.BackendID)
	if err != nil || len(history) != 1 || history[0].Status != messages.Ready {
		t.Errorf("the history of an early backend is %v, %v", history, err)
	}
	for _, token := range []string{early.Token, w.connect(listening(t, "late")).Token} {
		if code, _ := visit(t, px, token); code != http.StatusOK {
			t.Errorf("a visit: %d", code)
		}
	}
}

func deleteStreams(t *testing.T, w *world) {
	t.Helper()
	js := natstest.JetStream(t, w.nc)
	for _, name := range []string{messages.StreamActions, messages.StreamEvents, messages.StreamLogs} {
		must(t, js.DeleteStream(t.Context(), name))
	}
	testkit.Eventually(t, "the streams are made again", func() bool {
		for _, name := range []string{messages.StreamActions, messages.StreamEvents, messages.StreamLogs} {
			if _, err := js.Stream(t.Context(), name); err != nil {
				return false
			}
		}
		return true
	})
}

// I3 and I5: the streams are made again also where no drone asks for it: when the server
// is replaced, and when one is missed. What was committed meanwhile is published.
func TestI3I5MissingStreamsAreMadeAgainWithoutADrone(t *testing.T) {
	t.Parallel()
	s := natstest.Own(t)
	w := newWorldOf(t, s.URL(), pgtest.Database(t))
	startWorker(t, w, "wo-a", options{})
	p := startPeer(t, w, "dr-a")
	p.stopConsuming()
	js := natstest.JetStream(t, w.nc)

	must(t, js.DeleteStream(t.Context(), messages.StreamEvents))
	must(t, js.DeleteStream(t.Context(), messages.StreamActions))
	first := w.connect(spawnKey("doc-1"))
	awaitStream := func(name string, published uint64) {
		t.Helper()
		testkit.Eventually(t, name+" has what is on record", func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second) // a server that goes away takes a question with it: it is asked again
			defer cancel()
			stream, err := js.Stream(ctx, name)
			return err == nil && stream.CachedInfo().State.Msgs >= published
		})
	}
	awaitStream(messages.StreamEvents, 1)
	awaitStream(messages.StreamActions, 1)
	wantNumbers(t, w, first.BackendID, messages.Scheduled)

	s.Replace()
	for _, name := range []string{messages.StreamActions, messages.StreamEvents} {
		awaitStream(name, 1)
	}
	awaitStream(messages.StreamLogs, 0)
	wantNumbers(t, w, first.BackendID, messages.Scheduled)
}
