package proxy

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/messages"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

const cluster = "jetway.test"

// world is a NATS server, a worker's stand-in, and one proxy between them.
type world struct {
	t      *testing.T
	nats   *server.Server
	worker *worker
	proxy  *Proxy
	addr   string
	client *http.Client
	log    *logLines

	stop func() // ends Run and waits
}

func newWorld(t *testing.T, change ...func(*Config)) *world {
	t.Helper()
	w := &world{t: t, nats: startNATS(t, -1), log: &logLines{}}
	w.worker = newWorker(t, w.nats.ClientURL())

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	w.addr = listener.Addr().String()
	ready := make(chan struct{})
	cfg := Config{
		Name: "px-test", Listener: listener, DrainTimeout: -1,
		OnReady: func() { close(ready) },
		Log:     slog.New(slog.NewTextHandler(w.log, nil)),
	}
	for _, c := range change {
		c(&cfg)
	}
	w.proxy, err = New(cfg)
	must(t, err)
	nc, err := bus.Connect(t.Context(), bus.Config{URL: w.nats.ClientURL(), Name: cfg.Name, OnReconnect: w.proxy.BusGap, Log: slog.New(slog.DiscardHandler)})
	must(t, err)

	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.proxy.Run(ctx, nc) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(patience):
			t.Error("Run does not end")
		}
		nc.Close()
	})
	t.Cleanup(w.stop)
	await(t, ready, "the proxy to be ready")

	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", w.addr)
		},
		DisableCompression: true,
	}
	w.client = &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	t.Cleanup(transport.CloseIdleConnections)
	return w
}

// startNATS starts a server on port, -1 for any.
func startNATS(t *testing.T, port int) *server.Server {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: port, NoLog: true, NoSigs: true})
	must(t, err)
	s.Start()
	if !s.ReadyForConnections(patience) {
		t.Fatal("the NATS server does not start")
	}
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	return s
}

func (w *world) port() int { return w.nats.Addr().(*net.TCPAddr).Port }

// token makes a well-formed dynamic token out of a name.
func token(name string) string {
	var raw [32]byte
	copy(raw[:], name)
	return base64.RawURLEncoding.EncodeToString(raw[:])
}

// backend starts an HTTP server and gives its address.
func backend(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// ready is the route of a ready backend.
func ready(id, address string) messages.RouteResponse {
	return messages.RouteResponse{BackendID: id, Status: messages.Ready, Address: address, Cluster: cluster, ValidForMS: 3_600_000}
}

// leads makes token lead to a ready backend with this handler.
func (w *world) leads(token, id string, handler http.HandlerFunc) {
	w.worker.route(token, ready(id, backend(w.t, handler)))
}

// answer is a response, read to its end.
type answer struct {
	status int
	header http.Header
	body   string
}

// get requests http://jetway.test + path.
func (w *world) get(path string, header ...string) answer {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, "http://"+cluster+path, nil)
	must(w.t, err)
	return w.do(req, header...)
}

func (w *world) do(req *http.Request, header ...string) answer {
	w.t.Helper()
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
			continue
		}
		req.Header[header[i]] = append(req.Header[header[i]], header[i+1]) // in this very casing
	}
	resp, err := w.client.Do(req)
	must(w.t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	must(w.t, err)
	return answer{resp.StatusCode, resp.Header, string(body)}
}

// raw sends exactly these bytes and reads one response.
func (w *world) raw(request string) answer {
	w.t.Helper()
	conn, err := net.Dial("tcp", w.addr)
	must(w.t, err)
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	_, err = io.WriteString(conn, request)
	must(w.t, err)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	must(w.t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	must(w.t, err)
	return answer{resp.StatusCode, resp.Header, string(body)}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func equal[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s is %v, want %v", what, got, want)
	}
}

func await[T any](t testing.TB, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("waited in vain for %s", what)
		panic("unreachable")
	}
}

// eventually waits for what no channel tells.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(patience); !ok(); {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// logLines is a log that tests read.
type logLines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logLines) contains(s string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), s)
}

// worker answers on the proxy's subjects as workers do.
type worker struct {
	t          *testing.T
	nc         *nats.Conn
	mu         sync.Mutex
	routes     map[string]messages.RouteResponse
	gate       chan struct{} // if set, answers wait for it
	failing    bool          // keepalives are refused
	asked      chan string   // tokens, as they come
	keepalives chan []string
}

func newWorker(t *testing.T, url string) *worker {
	t.Helper()
	wk := &worker{t: t, routes: make(map[string]messages.RouteResponse), asked: make(chan string, 10000), keepalives: make(chan []string, 1000)}
	nc, err := nats.Connect(url, nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	must(t, err)
	t.Cleanup(nc.Close)
	wk.nc = nc
	_, err = nc.Subscribe(messages.SubjectAnyRoute, wk.answerRoute)
	must(t, err)
	_, err = nc.Subscribe(messages.SubjectAnyKeepalive, wk.answerKeepalive)
	must(t, err)
	must(t, nc.Flush())
	return wk
}

func (wk *worker) route(token string, r messages.RouteResponse) {
	wk.mu.Lock()
	defer wk.mu.Unlock()
	wk.routes[token] = r
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
	gate := wk.gate
	wk.mu.Unlock()
	wk.asked <- req.Token
	if gate != nil {
		<-gate
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
	must(wk.t, wk.nc.Flush())
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

// echo says what the backend saw.
func echo(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	_, _ = fmt.Fprintf(w, "%s %s host=%s body=%s", r.Method, r.RequestURI, r.Host, body)
}

// dial sends a request's bytes and leaves the connection open.
func (w *world) dial(request string) net.Conn {
	w.t.Helper()
	conn, err := net.Dial("tcp", w.addr)
	must(w.t, err)
	w.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	_, err = io.WriteString(conn, request)
	must(w.t, err)
	return conn
}

// inside is how many requests are under way.
func (w *world) inside() int {
	w.proxy.gate.mu.Lock()
	defer w.proxy.gate.mu.Unlock()
	return w.proxy.gate.inside
}

// known is how many routes are remembered.
func (w *world) known() int {
	w.proxy.routes.mu.Lock()
	defer w.proxy.routes.mu.Unlock()
	return len(w.proxy.routes.known)
}
