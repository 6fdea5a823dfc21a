package proxy_test

// The tests of files e2e_*_test.go see the proxy as a black box in the whole of Jetway:
// a NATS server, Postgres, a worker, a drone and the proxy, all real, and on both ends
// bytes on TCP connections. They live beside the proxy, in a package of their own that
// may put the roles together, because what they guard is the data path, whatever it is
// made of; those that look inside are in package proxy. Each test has a stack of its
// own, on the cluster that the tests of the package share: a client that one test has
// got refused, or a proxy that it has filled, is not another's.

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/internal/drone"
	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/internal/proxy"
	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/fake"
	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/internal/testkit/pgtest"
	"github.com/jetway-project/jetway/internal/worker"
	"github.com/jetway-project/jetway/messages"
	"github.com/jetway-project/jetway/messages/client"
)

// stack is all of Jetway.
type stack struct {
	t       *testing.T
	nc      *nats.Conn
	url     string // of NATS
	addr    string // of the proxy
	cluster string // the same, or by another name: what URLs and Host headers say
}

// newStack runs a stack until the test ends. Its drone runs nothing with a nil
// runtime: backends are then where the test says.
func newStack(t *testing.T, rt runtime.Runtime) *stack {
	t.Helper()
	return newStackAt(t, rt, "127.0.0.1")
}

// newStackAt is newStack, whose cluster has this name for the proxy's host.
func newStackAt(t *testing.T, rt runtime.Runtime, host string, change ...func(*proxy.Config)) *stack {
	t.Helper()
	log := testkit.Logger(t)
	url, dsn := natstest.Server(t).URL(), pgtest.Database(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	s := &stack{t: t, nc: natstest.Conn(t, url), url: url, addr: listener.Addr().String(), cluster: strings.Replace(listener.Addr().String(), "127.0.0.1", host, 1)}

	// No lease runs out, and no drone gets stale, however slow the machine.
	st, err := store.Open(t.Context(), store.Config{DSN: dsn, MaxConns: 4, Terms: lease.Terms{TTL: time.Hour}})
	must(t, err)
	t.Cleanup(st.Close)
	// Connections first: what is made later is closed earlier.
	workers, drones := natstest.Conn(t, url), natstest.Conn(t, url)
	keys := new(lease.Keys)
	must(t, keys.Replace([]byte(lease.NewKey())))
	ready := make(chan struct{})
	s.role("worker", ready, func(ctx context.Context) error {
		return worker.Run(ctx, worker.Config{
			Name: "wo-test", DefaultCluster: s.cluster, Keys: keys, OnReady: func() { close(ready) }, Log: log,
		}, workers, st)
	})

	name := "fake"
	if rt == nil {
		rt = fake.New()
	} else {
		name = "process"
	}
	t.Cleanup(func() { _ = rt.Close() })
	droneReady := make(chan struct{})
	s.role("drone", droneReady, func(ctx context.Context) error {
		err := drone.Run(ctx, drone.Config{
			Name: "dr-test", Cluster: s.cluster, RuntimeName: name, Grace: time.Second, Log: log,
			OnReady: func() { close(droneReady) },
		}, drones, rt)
		// On a slow machine a worker may not take the last words of a test that is over in the 5 s that a drone waits.
		if err != nil && strings.Contains(err.Error(), "no worker has taken the end of") {
			return nil
		}
		return err
	})

	s.proxy("px-test", listener, change...)
	return s
}

// proxy runs a proxy until the test ends.
func (s *stack) proxy(name string, listener net.Listener, change ...func(*proxy.Config)) {
	s.t.Helper()
	ready := make(chan struct{})
	cfg := proxy.Config{
		Name: name, Listener: listener, DrainTimeout: -1, OnReady: func() { close(ready) },
		Log: slog.New(slog.DiscardHandler), // a hundred thousand refusals are no news here
	}
	cfg.BePatient()
	for _, c := range change {
		c(&cfg)
	}
	px, err := proxy.New(cfg)
	must(s.t, err)
	nc, err := bus.Connect(s.t.Context(), bus.Config{URL: s.url, Name: name, OnReconnect: px.BusGap, Log: testkit.Logger(s.t)})
	must(s.t, err)
	s.t.Cleanup(nc.Close)
	s.role("proxy", ready, func(ctx context.Context) error { return px.Run(ctx, nc) })
}

// another runs one more proxy until the test ends, and gives its address.
func (s *stack) another(change ...func(*proxy.Config)) (addr string) {
	s.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(s.t, err)
	s.proxy("px-another", listener, change...)
	return listener.Addr().String()
}

// hasty changes a proxy into one that gives clients but a moment for the heads of their requests.
func hasty(c *proxy.Config) { c.LimitHeads(300 * time.Millisecond) }

// role runs a part until the test ends, before those that were started earlier.
func (s *stack) role(name string, ready <-chan struct{}, run func(ctx context.Context) error) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	s.t.Cleanup(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				s.t.Errorf("the %s: %v", name, err)
			}
		case <-time.After(testkit.Patience):
			s.t.Errorf("the %s does not end", name)
		}
	})
	select {
	case <-ready:
	case err := <-ended:
		ended <- err
		s.t.Fatalf("the %s has ended: %v", name, err)
	case <-time.After(testkit.Patience):
		s.t.Fatalf("the %s does not get ready", name)
	}
}

// connect asks for a backend as a web tier does, again while there is no drone: one that
// believes its consumer dead, as on a machine that stood still, is away until it has registered anew.
func (s *stack) connect(req messages.ConnectRequest) (resp messages.ConnectResponse) {
	s.t.Helper()
	ctx := testkit.Context(s.t)
	testkit.Eventually(s.t, "a drone takes a backend", func() bool {
		var err error
		resp, err = client.Request[messages.ConnectResponse](ctx, s.nc, messages.SubjectConnect, req)
		if messages.KindOf(err) == messages.NoDroneAvailable {
			return false
		}
		must(s.t, err)
		return true
	})
	return resp
}

// leads makes a backend of what listens at address, and gives the path to it, a slash
// at its end.
func (s *stack) leads(address string) string {
	s.t.Helper()
	return "/" + s.connect(messages.ConnectRequest{
		SpawnConfig: &messages.SpawnConfig{Executable: fake.Script{Address: address}.Executable()},
	}).Token + "/"
}

// dial connects to the proxy until the test ends.
func (s *stack) dial() *net.TCPConn { return dialTo(s.t, s.addr) }

func dialTo(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	must(t, conn.SetDeadline(time.Now().Add(testkit.Patience)))
	return conn.(*net.TCPConn)
}

// reply is a response, read to its end.
type reply struct {
	status int // 0: the connection ended without a response
	header http.Header
	body   string
	err    error // what the body ended with
}

// send sends these bytes on a new connection and reads one response. Informational
// responses before it are left out.
func (s *stack) send(request string) reply {
	s.t.Helper()
	return s.sendTo(s.addr, request)
}

func (s *stack) sendTo(addr, request string) reply {
	s.t.Helper()
	conn := dialTo(s.t, addr)
	defer func() { _ = conn.Close() }()
	_, _ = io.WriteString(conn, request) // the proxy may refuse before the end
	return readReply(bufio.NewReader(conn))
}

func readReply(r *bufio.Reader) reply {
	for {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return reply{err: err}
		}
		if resp.StatusCode >= 100 && resp.StatusCode < 200 && resp.StatusCode != http.StatusSwitchingProtocols {
			continue
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		return reply{resp.StatusCode, resp.Header, string(body), err}
	}
}

// get is a plain request, as it must always work.
func (s *stack) get(path string) reply {
	s.t.Helper()
	return s.send("GET " + path + " HTTP/1.1\r\nHost: " + s.cluster + "\r\nConnection: close\r\n\r\n")
}

// serves checks that the proxy still serves who behaves.
func (s *stack) serves(path string) {
	s.t.Helper()
	if got := s.get(path); got.status != http.StatusOK {
		s.t.Errorf("a plain request gets %d %q %v", got.status, got.body, got.err)
	}
}

// httpBackend is a backend with a handler.
func httpBackend(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	server.Start()
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// hello is the simplest backend.
func hello(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }

// rawBackend is a backend made of bytes: each connection but a drone's probe is given
// to serve, and closed after it. What came on them is kept.
type rawBackend struct {
	address string
	mu      sync.Mutex
	conns   []*rawConn
}

// rawConn is a connection of a backend.
type rawConn struct {
	net.Conn
	from *bufio.Reader
	mu   sync.Mutex
	got  []byte
	done chan struct{} // closed when serve has returned
}

// Read keeps what it reads. The reader `from` reads through it.
func (c *rawConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got = append(c.got, p[:n]...)
	return n, err
}

func (c *rawConn) received() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.got)
}

// head reads a request's head, its empty line included; "" when there is none.
func (c *rawConn) head() string {
	var head []byte
	for !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
		line, err := c.from.ReadBytes('\n')
		if err != nil {
			return ""
		}
		head = append(head, line...)
	}
	return string(head)
}

func newRawBackend(t *testing.T, serve func(c *rawConn, head string)) *rawBackend {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	b := &rawBackend{address: listener.Addr().String()}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			c := &rawConn{Conn: conn, done: make(chan struct{})}
			c.from = bufio.NewReader(c)
			b.mu.Lock()
			b.conns = append(b.conns, c)
			b.mu.Unlock()
			serving.Go(func() {
				defer close(c.done)
				defer func() { _ = conn.Close() }()
				if head := c.head(); strings.HasPrefix(head, "HEAD / ") {
					b.forget(c)
					_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
				} else if head != "" {
					serve(c, head)
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		b.mu.Lock()
		for _, c := range b.conns {
			_ = c.Close()
		}
		b.mu.Unlock()
		serving.Wait()
	})
	return b
}

func (b *rawBackend) forget(c *rawConn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.conns {
		if b.conns[i] == c {
			b.conns = append(b.conns[:i], b.conns[i+1:]...)
			return
		}
	}
}

// took gives the connections so far and forgets them.
func (b *rawBackend) took() []*rawConn {
	b.mu.Lock()
	defer b.mu.Unlock()
	conns := b.conns
	b.conns = nil
	return conns
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ends waits until the other side ends a connection, and gives what came before.
func ends(t testing.TB, conn net.Conn, what string) string {
	t.Helper()
	said, err := io.ReadAll(conn)
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		t.Errorf("%s: the connection is not ended; it said %.200q", what, said)
	}
	return string(said)
}
