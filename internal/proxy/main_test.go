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

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/messages"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const cluster = "jetway.test"

// world is a NATS server, a worker's stand-in, and one proxy between them.
type world struct {
	t      testing.TB
	worker *worker
	link   *testkit.FaultProxy // between NATS and the proxy
	proxy  *Proxy
	addr   string
	client *http.Client
	log    *logLines

	stop func() // ends Run and waits
}

func newWorld(t testing.TB, change ...func(*Config)) *world {
	t.Helper()
	nats := natstest.Server(t)
	w := &world{t: t, worker: newWorker(t, nats.URL()), log: &logLines{}}
	w.link = testkit.NewFaultProxy(t, strings.TrimPrefix(nats.URL(), "nats://"))

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	w.addr = listener.Addr().String()
	ready := make(chan struct{})
	cfg := Config{
		Name: "px-test", Listener: listener, DrainTimeout: -1,
		OnReady: func() { close(ready) },
		Log:     slog.New(slog.NewTextHandler(w.log, nil)),
	}
	cfg.BePatient()
	for _, c := range change {
		c(&cfg)
	}
	w.proxy, err = New(cfg)
	must(t, err)
	nc, err := bus.Connect(t.Context(), bus.Config{URL: "nats://" + w.link.Addr(), Name: cfg.Name, OnReconnect: w.proxy.BusGap, Log: slog.New(slog.DiscardHandler)})
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
		case <-time.After(testkit.Patience):
			t.Error("Run does not end")
		}
		nc.Close()
	})
	t.Cleanup(w.stop)
	testkit.Receive(t, ready, "the proxy to be ready")

	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", w.addr)
		},
		DisableCompression:     true,
		MaxIdleConnsPerHost:    64,
		MaxResponseHeaderBytes: 64 << 10, // of early hints as well
	}
	w.client = &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	t.Cleanup(transport.CloseIdleConnections)
	return w
}

// token makes a well-formed dynamic token out of a name.
func token(name string) string {
	var raw [32]byte
	copy(raw[:], name)
	return base64.RawURLEncoding.EncodeToString(raw[:])
}

// backend starts an HTTP server and gives its address.
func backend(t testing.TB, handler http.HandlerFunc) string {
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
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	must(w.t, err)
	return answer{resp.StatusCode, resp.Header, string(body)}
}

// raw sends exactly these bytes and reads one response.
func (w *world) raw(request string) answer {
	w.t.Helper()
	conn, err := net.Dial("tcp", w.addr)
	must(w.t, err)
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(testkit.Patience))
	_, err = io.WriteString(conn, request)
	must(w.t, err)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	must(w.t, err)
	defer func() { _ = resp.Body.Close() }()
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
	_ = conn.SetDeadline(time.Now().Add(testkit.Patience))
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
