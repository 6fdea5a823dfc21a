package socket

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/testkit"
)

func TestMain(m *testing.M) {
	testkit.ManyAtOnce() // most wait more than they work
	silence, forgetAfter = time.Second, 10*time.Millisecond
	testkit.Main(m)
}

// server is a runtime's server that does what a test says. By itself it knows of no backend, starts
// everything and says often that it is there.
type server struct {
	t    *testing.T
	path string

	mu       sync.Mutex
	http     *http.Server
	handlers map[string]func(w http.ResponseWriter, r *http.Request, ask request)
	// asked are the requests that came, but for events.
	asked chan request
	// stream has what is said on the stream, and lists what it begins with.
	stream chan string
	lists  []string
}

// request is any of those that there are.
type request struct {
	what       string
	Drone      string
	BackendID  string            `json:"backend_id"`
	BackendIDs []string          `json:"backend_ids"`
	Key        string            `json:"key"`
	Namespace  string            `json:"namespace"`
	Executable json.RawMessage   `json:"executable"`
	Env        map[string]string `json:"env"`
	Hard       bool
	After      string
}

func newServer(t *testing.T) *server {
	t.Helper()
	dir, err := os.MkdirTemp("", "jw") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &server{
		t: t, path: filepath.Join(dir, "s"), asked: make(chan request, 1000), stream: make(chan string, 1000),
		handlers: map[string]func(http.ResponseWriter, *http.Request, request){},
	}
	for what, answer := range map[string]string{
		"prepare": `{"ready":true}` + "\n", "start": `{"address":"127.0.0.1:9","pid":0}`, "find": `{"backends":[]}`,
		"terminate": `{"running":[]}`, "usage": `{"cpu_ns":7,"mem_used":9}`, "forget": `{}`,
	} {
		s.says(what, answer)
	}
	s.does("events", s.events)
	s.begin()
	t.Cleanup(s.end)
	return s
}

// does has requests answered so; says with a text.
func (s *server) does(what string, f func(http.ResponseWriter, *http.Request, request)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handlers[what] = f
}

func (s *server) says(what, answer string) {
	s.does(what, func(w http.ResponseWriter, _ *http.Request, _ request) { _, _ = io.WriteString(w, answer) })
}

func (s *server) refuses(what string, status int, answer string) {
	s.does(what, func(w http.ResponseWriter, _ *http.Request, _ request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, answer)
	})
}

func (s *server) begin() {
	s.t.Helper()
	listener, err := net.Listen("unix", s.path)
	if err != nil {
		s.t.Fatal(err)
	}
	running := &http.Server{Handler: s, ReadHeaderTimeout: testkit.Patience}
	s.mu.Lock()
	s.http = running
	s.mu.Unlock()
	go func() { _ = running.Serve(listener) }()
}

func (s *server) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.http.Close()
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ask := request{what: strings.TrimPrefix(r.URL.Path, "/v1/")}
	if err := json.NewDecoder(r.Body).Decode(&ask); err != nil || r.Method != http.MethodPost {
		s.t.Errorf("%s %s: %v", r.Method, r.URL, err)
	}
	s.mu.Lock()
	handler := s.handlers[ask.what]
	s.mu.Unlock()
	s.asked <- ask
	handler(w, r, ask)
}

// events tells what there is, and then what the test says.
func (s *server) events(w http.ResponseWriter, r *http.Request, _ request) {
	s.mu.Lock()
	lists := s.lists
	s.mu.Unlock()
	alive := time.NewTicker(20 * time.Millisecond)
	defer alive.Stop()
	for _, line := range append(slices.Clip(lists), `{"listed":true}`) {
		_, _ = fmt.Fprintln(w, line)
	}
	for {
		_ = http.NewResponseController(w).Flush()
		select {
		case line := <-s.stream:
			if line == "break" {
				panic(http.ErrAbortHandler)
			}
			_, _ = fmt.Fprintln(w, line)
		case <-alive.C:
			_, _ = fmt.Fprintln(w, "{}")
		case <-r.Context().Done():
			return
		}
	}
}

// list is what each stream begins with from now on.
func (s *server) list(lines ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lists = lines
}

// awaits gives the next request of a kind.
func (s *server) awaits(what string) request {
	s.t.Helper()
	for {
		if ask := testkit.Receive(s.t, s.asked, "a request for "+what); ask.what == what {
			return ask
		}
	}
}

// runtime is one at the server, whose stream is up.
func (s *server) runtime() *Runtime {
	s.t.Helper()
	r := s.fresh("")
	if _, err := r.Find(testkit.Context(s.t)); err != nil {
		s.t.Fatal(err)
	}
	awaitAway(s.t, r, "")
	return r
}

// fresh is one that has not asked for anything yet.
func (s *server) fresh(state string) *Runtime {
	s.t.Helper()
	r, err := New(testkit.Context(s.t), Config{Drone: "dr-a", Path: s.path, StateDir: state, Log: testkit.Logger(s.t)})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = r.Close() })
	return r
}

// awaitAway waits until the runtime is away for such a reason; "": until it is there.
func awaitAway(t *testing.T, r *Runtime, reason string) {
	t.Helper()
	for {
		changed, why := r.Away()
		if reason == "" && why == nil || reason != "" && why != nil && strings.Contains(why.Error(), reason) {
			return
		}
		limit := time.NewTimer(testkit.Patience)
		select {
		case <-changed:
			limit.Stop()
		case <-limit.C:
			t.Fatalf("instead of %q it is away for %v", reason, why)
		}
	}
}

// lines takes what a backend writes.
func lines() (log func(runtime.Line), said chan string) {
	said = make(chan string, 1000)
	return func(l runtime.Line) { said <- string(l.Stream) + " " + l.Text }, said
}

func start(t *testing.T, r *Runtime, spec runtime.Spec) runtime.Instance {
	t.Helper()
	i, err := r.Start(testkit.Context(t), spec)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func running(i runtime.Instance) bool {
	select {
	case <-i.Done():
		return false
	default:
		return true
	}
}
