package gateway_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/dev"
	"github.com/jetway-project/jetway/internal/gateway"
	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/internal/metrics"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/internal/testkit/pgtest"
	"github.com/jetway-project/jetway/messages"
	"github.com/jetway-project/jetway/messages/client"
)

func TestMain(m *testing.M) {
	testkit.ManyAtOnce()
	testkit.Main(m, endShared)
}

// shared is the one stack of this package's tests: each has keys and backends of its own.
var shared struct {
	once  sync.Once
	stack *dev.Stack
	dir   string
	err   error
}

func sharedStack(t testing.TB) *dev.Stack {
	t.Helper()
	shared.once.Do(func() {
		if shared.dir, shared.err = pgtest.StackData(); shared.err == nil {
			log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
			// Of such leases no machine is too slow to be heard: a drone that is in doubt whether it is wakes what sleeps.
			terms := lease.Terms{TTL: 12 * testkit.Patience}
			shared.stack, shared.err = dev.Start(context.Background(), dev.Config{Data: shared.dir, Runtime: dev.RuntimeFake, Terms: terms, Log: log})
		}
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.stack
}

func endShared() (err error) {
	if shared.stack != nil {
		err = shared.stack.Stop(context.Background())
	}
	return errors.Join(err, os.RemoveAll(shared.dir))
}

// fixture is a gateway on the shared stack.
type fixture struct {
	t    testing.TB
	g    *gateway.Gateway
	url  string
	log  *lines
	nc   *nats.Conn
	http *http.Client
	stop func()
}

// lines is a log that is read.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// start runs a gateway until the test ends. change may change how.
func start(t testing.TB, change ...func(*gateway.Config)) *fixture {
	t.Helper()
	return startOn(t, sharedStack(t).NATSURL, change...)
}

func startOn(t testing.TB, natsURL string, change ...func(*gateway.Config)) *fixture {
	t.Helper()
	f := &fixture{t: t, log: new(lines), nc: natstest.Conn(t, natsURL)}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	log := slog.New(slog.NewTextHandler(f.log, nil))
	server, err := metrics.StartGateway("", log)
	must(t, err)
	ready := make(chan struct{})
	cfg := gateway.Config{
		Name: "gw-test", Listener: listener, Version: "1.2.3", Metrics: server, Log: log, AccessLog: true, OnReady: func() { close(ready) },
	}
	// No test judges by how soon: a request on a slow machine is not too slow.
	cfg.Waits(testkit.Patience, 20*time.Millisecond)
	for _, c := range change {
		c(&cfg)
	}
	f.g, err = gateway.New(cfg)
	must(t, err)
	f.url = "http://" + listener.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.g.Run(ctx, f.nc) }()
	testkit.Receive(t, ready, "the gateway serves")
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	f.http = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	f.stop = sync.OnceFunc(func() {
		transport.CloseIdleConnections()
		cancel()
		if err := testkit.Receive(t, ended, "the gateway's end"); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(f.stop)
	return f
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// reply is an answer, read.
type reply struct {
	status int
	header http.Header
	body   string
}

// ask asks with headers, in pairs.
func (f *fixture) ask(method, path, body string, headers ...string) reply {
	f.t.Helper()
	r := f.request(method, path, body, headers...)
	resp, err := f.http.Do(r)
	must(f.t, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	must(f.t, err)
	return reply{resp.StatusCode, resp.Header, string(data)}
}

func (f *fixture) request(method, path, body string, headers ...string) *http.Request {
	f.t.Helper()
	r, err := http.NewRequestWithContext(testkit.Context(f.t), method, f.url+path, strings.NewReader(body))
	must(f.t, err)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	r.Header.Set("Jetway-Timeout", "60s")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
		if headers[i+1] == "" {
			r.Header.Del(headers[i])
		}
	}
	return r
}

// into reads a body as JSON.
func into[T any](t testing.TB, r reply) (v T) {
	t.Helper()
	if r.status != http.StatusOK {
		t.Fatalf("answered with %d %s", r.status, r.body)
	}
	must(t, json.Unmarshal([]byte(r.body), &v))
	return v
}

// connect spawns a backend for a key.
func (f *fixture) connect(body string, headers ...string) gateway.Connected {
	f.t.Helper()
	return into[gateway.Connected](f.t, f.ask("POST", "/v1/connect", body, headers...))
}

// await waits until a backend has a status.
func (f *fixture) await(backend string, status messages.Status) {
	f.t.Helper()
	testkit.Eventually(f.t, backend+" is "+status.String(), func() bool {
		info, err := client.Request[messages.BackendInfo](testkit.Context(f.t), f.nc, messages.SubjectStatus, messages.StatusRequest{BackendID: backend})
		return err == nil && info.Status == status
	})
}

// event is one of a stream.
type event struct{ name, id, data string }

// stream is an open one.
type stream struct {
	t      testing.TB
	resp   *http.Response
	events chan event
}

// open opens a stream; it is closed when the test ends.
func (f *fixture) open(path string, headers ...string) *stream {
	f.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := f.request("GET", path, "", append([]string{"Accept", "text/event-stream"}, headers...)...).WithContext(ctx)
	resp, err := f.http.Do(r)
	must(f.t, err)
	for began := time.Now(); resp.StatusCode == http.StatusServiceUnavailable && time.Since(began) < testkit.Patience; { // NATS did not answer it in time
		_ = resp.Body.Close()
		resp, err = f.http.Do(r)
		must(f.t, err)
	}
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		f.t.Fatalf("the stream %s is answered with %s", path, resp.Status)
	}
	s := &stream{t: f.t, resp: resp, events: make(chan event)}
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(s.events)
		defer resp.Body.Close()
		var e event
		scanner := bufio.NewScanner(resp.Body)
		scanner.Buffer(nil, 1<<20)
		for scanner.Scan() {
			name, value, _ := strings.Cut(scanner.Text(), ": ")
			switch name {
			case "event":
				e.name = value
			case "id":
				e.id = value
			case "data":
				e.data = value
			case "":
				if e.data != "" {
					select {
					case s.events <- e:
					case <-ctx.Done():
						return
					}
				}
				e = event{}
			}
		}
	})
	f.t.Cleanup(func() { cancel(); reading.Wait() })
	return s
}

// next gives the next event of a state, or a notice that is not of the hub's own.
func (s *stream) next() event {
	s.t.Helper()
	for {
		e := testkit.Receive(s.t, s.events, "an event")
		if e.name != "live" && e.name != "sleep" {
			return e
		}
	}
}

// state reads an event of a backend.
func (e event) state(t testing.TB) messages.StateEvent {
	t.Helper()
	var s messages.StateEvent
	if err := json.Unmarshal([]byte(cmp.Or(e.data, "{}")), &s); err != nil {
		t.Fatalf("%+v: %v", e, err)
	}
	return s
}

// tokens writes a file of tokens, and gives them by name.
func tokens(t testing.TB, all ...gateway.Token) (path string, byName map[string]string) {
	t.Helper()
	byName = make(map[string]string)
	var text strings.Builder
	for _, line := range all {
		token, line, err := gateway.NewToken(line)
		must(t, err)
		byName[line.Name] = token
		data, err := json.Marshal(line)
		must(t, err)
		text.Write(data)
		text.WriteByte('\n')
	}
	path = filepath.Join(t.TempDir(), "tokens")
	must(t, os.WriteFile(path, []byte(text.String()), 0o600))
	return path, byName
}
