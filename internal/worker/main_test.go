package worker_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/internal/testkit/pgtest"
	"github.com/jetway-project/jetway/internal/worker"
	"github.com/jetway-project/jetway/messages"
)

func TestMain(m *testing.M) {
	if url := os.Getenv(droneEnv); url != "" {
		playDrone(url)
	}
	if env := os.Getenv(workerEnv); env != "" {
		playWorker(env)
	}
	testkit.ManyAtOnce()
	testkit.Main(m)
}

const cluster = "jetway.test"

// longTTL is of leases that do not run out, and of drones that count as alive, unless
// the test lets time go by, see elapse: the longest that there is, for on a slow machine a test
// takes many minutes in which its drone says nothing.
const longTTL = time.Hour

// world is a database and a NATS server with an asker. At the end of the test it
// wants exactly one reply to have come to everything that was asked (I7).
type world struct {
	t   *testing.T
	url string
	dsn string
	nc  *nats.Conn
	db  *pgxpool.Pool

	inbox   string
	mu      sync.Mutex
	asked   int
	replies map[string]int
	waiting map[string]chan *nats.Msg
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldOf(t, natstest.Server(t).URL(), pgtest.Database(t))
}

// newWorldOf is newWorld with a server and a database that are the test's.
func newWorldOf(t *testing.T, url, dsn string) *world {
	t.Helper()
	w := &world{
		t: t, url: url, dsn: dsn, inbox: nats.NewInbox(),
		replies: make(map[string]int), waiting: make(map[string]chan *nats.Msg),
	}
	w.nc = natstest.Conn(t, w.url)
	var err error
	w.db, err = pgxpool.New(t.Context(), w.dsn)
	must(t, err)
	t.Cleanup(w.db.Close)
	_, err = w.nc.Subscribe(w.inbox+".*", func(msg *nats.Msg) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.replies[msg.Subject]++
		if c := w.waiting[msg.Subject]; c != nil && w.replies[msg.Subject] == 1 {
			c <- msg
		}
	})
	must(t, err)
	t.Cleanup(func() {
		_ = w.nc.FlushTimeout(testkit.Patience)
		w.mu.Lock()
		defer w.mu.Unlock()
		for subject := range w.waiting {
			if n := w.replies[subject]; n != 1 {
				t.Errorf("a request got %d replies", n)
			}
		}
	})
	return w
}

// options of a worker of a test.
type options struct {
	ttl    time.Duration // longTTL when 0
	dsn    string        // of the world when ""
	url    string        // of the world when ""
	change func(*worker.Config)
}

// startWorker runs a worker of its own connection and store until the test ends,
// or until the function that it gives is called, which waits for the worker's end.
func startWorker(t *testing.T, w *world, name string, o options) (stop func()) {
	t.Helper()
	if o.dsn == "" {
		o.dsn = w.dsn
	}
	if o.url == "" {
		o.url = w.url
	}
	st, err := store.Open(t.Context(), store.Config{DSN: o.dsn, MaxConns: 4, Terms: lease.Terms{TTL: cmp.Or(o.ttl, longTTL)}})
	must(t, err)
	nc := natstest.Conn(t, o.url, nats.ReconnectBufSize(-1))
	ready := make(chan struct{})
	cfg := worker.Config{Name: name, Version: "1.2.3", DefaultCluster: cluster, Keys: keysOf(t, testKey), OnReady: func() { close(ready) }, Log: testkit.Logger(t)}
	if o.change != nil {
		o.change(&cfg)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- worker.Run(ctx, cfg, nc, st) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(testkit.Patience): // the test's goroutine may be another
			t.Error("Run does not end")
		}
		st.Close()
	})
	t.Cleanup(stop)
	select {
	case <-ready:
	case err := <-ended:
		t.Fatalf("Run ended: %v", err)
	case <-time.After(testkit.Patience):
		t.Fatal("the worker does not become ready")
	}
	return stop
}

// send asks without waiting and gives where the one reply comes.
func (w *world) send(subject string, data []byte, header nats.Header) <-chan *nats.Msg {
	w.t.Helper()
	// Else a slow machine settles some in time and some not. The largest have no room for it.
	if header.Get(messages.HeaderTimeout) == "" && len(data) < 1<<19 {
		header = maps.Clone(header)
		if header == nil {
			header = nats.Header{}
		}
		header.Set(messages.HeaderTimeout, testkit.Patience.String())
	}
	reply := make(chan *nats.Msg, 1)
	w.mu.Lock()
	w.asked++
	inbox := fmt.Sprintf("%s.%d", w.inbox, w.asked)
	w.waiting[inbox] = reply
	w.mu.Unlock()
	if err := w.nc.PublishMsg(&nats.Msg{Subject: subject, Reply: inbox, Data: data, Header: header}); err != nil {
		w.t.Errorf("ask %s: %v", subject, err)
	}
	return reply
}

// await gives what was replied: an error of the protocol, or the payload.
func (w *world) await(reply <-chan *nats.Msg) ([]byte, *messages.Error) {
	w.t.Helper()
	select {
	case msg := <-reply:
		return read(w.t, msg)
	case <-time.After(testkit.Patience):
		w.t.Error("no reply")
		return nil, messages.Errorf("NoReply", "no reply")
	}
}

// read checks the form of a reply.
func read(t *testing.T, msg *nats.Msg) ([]byte, *messages.Error) {
	t.Helper()
	code, text := msg.Header.Get("Nats-Service-Error-Code"), msg.Header.Get("Nats-Service-Error")
	if code == "" && text == "" {
		if status := msg.Header.Get("Status"); status != "" {
			return nil, messages.Errorf(messages.Kind("NATS"+status), "no worker")
		}
		return msg.Data, nil
	}
	var body struct{ ID, Kind, Message string }
	if err := json.Unmarshal(msg.Data, &body); err != nil {
		t.Errorf("an error's body is %q: %v", msg.Data, err)
	}
	refusal := new(messages.Error)
	_ = json.Unmarshal(msg.Data, refusal)
	if body.ID == "" || body.Kind == "" || body.Message == "" || text != messages.HeaderASCII(body.Message) || code != refusal.CodeString() {
		t.Errorf("a malformed error: code %q, text %q, body %s", code, text, msg.Data)
	}
	return nil, refusal
}

// ask sends a payload, raw when it is []byte or string, and waits.
func (w *world) ask(subject string, payload any) ([]byte, *messages.Error) {
	w.t.Helper()
	return w.await(w.send(subject, encode(payload), nil))
}

func encode(payload any) []byte {
	switch p := payload.(type) {
	case []byte:
		return p
	case string:
		return []byte(p)
	}
	return messages.Encode(payload)
}

func (w *world) sendConnect(req messages.ConnectRequest, timeout time.Duration) <-chan *nats.Msg {
	w.t.Helper()
	header := nats.Header{}
	if timeout != 0 {
		header.Set("Jetway-Timeout", timeout.String())
	}
	return w.send(messages.SubjectConnect, messages.Encode(req), header)
}

// refusedWhileLeaving wants a connect whose key's backend is leaving to be refused at its deadline. On a slow machine
// that may be over before the worker or the database has come to the key: then it asks again.
func (w *world) refusedWhileLeaving(name string) {
	w.t.Helper()
	testkit.Eventually(w.t, "KeyHeldUnhealthy", func() bool {
		got, refusal := w.awaitConnect(w.sendConnect(spawnKey(name), 100*time.Millisecond))
		if refusal == nil {
			w.t.Fatalf("the key %s, whose backend is leaving, was given out: %+v", name, got)
		}
		return refusal.Kind == messages.KeyHeldUnhealthy
	})
}

func (w *world) awaitConnect(reply <-chan *nats.Msg) (messages.ConnectResponse, *messages.Error) {
	w.t.Helper()
	data, refusal := w.await(reply)
	if refusal != nil {
		return messages.ConnectResponse{}, refusal
	}
	return as[messages.ConnectResponse](w.t, data), nil
}

// connect wants a connect to be granted.
func (w *world) connect(req messages.ConnectRequest) messages.ConnectResponse {
	w.t.Helper()
	resp, refusal := w.awaitConnect(w.sendConnect(req, testkit.Patience))
	if refusal != nil {
		w.t.Fatalf("connect was refused: %v", refusal)
	}
	return resp
}

// route gives where a token leads; ok is false when nowhere.
func (w *world) route(token string) (r messages.RouteResponse, ok bool) {
	w.t.Helper()
	data, refusal := w.ask(messages.RouteSubject("px-test"), messages.RouteRequest{Token: token})
	if refusal != nil {
		if refusal.Kind != messages.NotFound {
			w.t.Errorf("a route was refused with %v", refusal)
		}
		return r, false
	}
	return as[messages.RouteResponse](w.t, data), true
}

func (w *world) status(backend string) messages.BackendInfo {
	w.t.Helper()
	data, refusal := w.ask(messages.SubjectStatus, messages.StatusRequest{BackendID: backend})
	if refusal != nil {
		w.t.Fatalf("no status of %s: %v", backend, refusal)
	}
	return as[messages.BackendInfo](w.t, data)
}

// count counts rows of the database itself.
func (w *world) count(from string, args ...any) (n int) {
	w.t.Helper()
	must(w.t, w.db.QueryRow(w.t.Context(), "select count(*) from "+from, args...).Scan(&n))
	return n
}

// settled waits until so many rows of the outbox are left: what is published is taken off the record a moment later.
func (w *world) settled(rows int) {
	w.t.Helper()
	testkit.Eventually(w.t, fmt.Sprintf("%d rows are left in the outbox", rows), func() bool { return w.count("outbox") == rows })
}

// contents is all that requests may change, except when an outbox row is tried again.
func (w *world) contents() string {
	w.t.Helper()
	var all strings.Builder
	for _, rows := range []string{
		"select * from lease",
		// The sweep moves due_at on where it finds nothing to do.
		"select (to_jsonb(b) - 'due_at')::text from backend b",
		"select * from token", "select * from drone",
		"select id, kind, backend_id, status, body from outbox",
	} {
		var text string
		must(w.t, w.db.QueryRow(w.t.Context(),
			"select coalesce(string_agg(t::text, E'\n' order by t::text), '') from ("+rows+") t").Scan(&text))
		fmt.Fprintf(&all, "-- %s\n%s\n", rows, text)
	}
	return all.String()
}

func spawnKey(name string) messages.ConnectRequest {
	return messages.ConnectRequest{Key: &messages.Key{Name: name}, SpawnConfig: &messages.SpawnConfig{Executable: json.RawMessage(`{"command":["room"]}`)}}
}

func as[T any](t *testing.T, data []byte) (v T) {
	t.Helper()
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatalf("a reply is %q: %v", data, err)
	}
	return v
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
