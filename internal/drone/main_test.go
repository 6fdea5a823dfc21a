package drone_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/drone"
	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/fake"
	"github.com/jetway-project/jetway/internal/runtime/process"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/messages"
)

const testDrone = "dr-test-"

// droneName is the drone's in a test. No other test's has it: one whose server is stopped asks on at the server's port,
// which the next test's server may get.
func droneName(tb testing.TB) string {
	tb.Helper()
	test, _, _ := strings.Cut(tb.Name(), "/")
	sum := fnv.New64a()
	_, _ = sum.Write([]byte(test))
	return testDrone + strconv.FormatUint(sum.Sum64(), 36)
}

func TestMain(m *testing.M) {
	if role := os.Getenv("TEST_BACKEND"); role != "" {
		playBackend(role)
	}
	if len(os.Args) > 1 && os.Args[1] == "guard" {
		playGuard(os.Args[2:])
	}
	if config := os.Getenv("TEST_AGENT"); config != "" {
		playAgent(config)
	}
	flag.Parse()
	_ = flag.Set("test.parallel", "8") // they wait more than they work
	testkit.Main(m)
}

// playBackend is what this binary does when a drone runs it as a backend.
func playBackend(role string) {
	switch role {
	case "exits":
		fmt.Println("looking for the database")
		fmt.Fprintln(os.Stderr, "there is \x00 no database")
		os.Exit(3)
	case "mute":
		select {}
	case "begets": // a child of which nothing tells whose it is
		child := exec.Command("/bin/sleep", "1000")
		child.Env, child.SysProcAttr = []string{}, &syscall.SysProcAttr{Setsid: true}
		if err := child.Start(); err != nil {
			fmt.Println(err)
		}
		fmt.Println("child", child.Process.Pid)
	case "claimable":
		playClaimable()
	case "deaf":
		signal.Ignore(syscall.SIGTERM)
	}
	fmt.Println("listening")
	server := &http.Server{Addr: "127.0.0.1:" + os.Getenv("PORT"), ReadHeaderTimeout: time.Minute}
	server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/exit":
			code, _ := strconv.Atoi(r.URL.RawQuery)
			os.Exit(code)
		case "/panic":
			for n := range 3000 {
				fmt.Fprintln(os.Stderr, "line", n)
			}
			fmt.Fprintln(os.Stderr, "panic: no room left")
			os.Exit(2)
		case "/echo":
			echo(w, r)
			return
		}
		for _, name := range []string{"ID", "KEY", "NAMESPACE", "FENCING_TOKEN", "STATIC_TOKEN"} {
			value, set := os.LookupEnv("SESSION_BACKEND_" + name)
			w.Header().Set("X-"+name, fmt.Sprint(value, " ", set))
		}
		w.WriteHeader(http.StatusTeapot) // any answer counts
	})
	fmt.Println(server.ListenAndServe())
	os.Exit(1)
}

// echo says who it is, and then what it hears.
func echo(w http.ResponseWriter, r *http.Request) {
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		return
	}
	defer ws.CloseNow()
	for kind, text := websocket.MessageText, []byte(strconv.Itoa(os.Getpid())); err == nil; kind, text, err = ws.Read(r.Context()) {
		if ws.Write(r.Context(), kind, text) != nil {
			return
		}
	}
}

func asError(err error, to **messages.Error) bool { return errors.As(err, to) }

// processes gives a process runtime that can run this binary.
func processes(t *testing.T) runtime.Runtime {
	t.Helper()
	rt, err := process.New(process.Config{Root: ownRoot(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rt.Close() })
	return rt
}

// ownRoot gives a directory with this binary.
func ownRoot(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	backend := filepath.Join(root, "backend")
	if os.Link(self, backend) == nil {
		return root
	}
	binary, err := os.ReadFile(self) // it is on another file system
	if err == nil {
		err = os.WriteFile(backend, binary, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func plays(role string) json.RawMessage {
	return messages.Encode(map[string]any{"command": []string{"backend"}, "env": map[string]string{"TEST_BACKEND": role}})
}

// agent is a drone that runs in a test.
type agent struct {
	t      testing.TB
	ready  chan struct{}
	stop   context.CancelFunc
	result chan error
}

// start runs a drone until the test ends; change alters its configuration.
func start(tb testing.TB, url string, rt runtime.Runtime, change ...func(*drone.Config)) *agent {
	tb.Helper()
	nc := natstest.Conn(tb, url, nats.ReconnectBufSize(-1))
	ctx, stop := context.WithCancel(context.Background())
	hurry := make(chan struct{})
	a := &agent{t: tb, ready: make(chan struct{}), stop: stop, result: make(chan error, 1)}
	cfg := drone.Config{
		Name: droneName(tb), Cluster: "localhost:9090", Version: "test", RuntimeName: "test",
		Grace: grace, ShutdownTimeout: testkit.Patience, Hurry: hurry, Log: testkit.Logger(tb),
		OnReady: func() { close(a.ready) },
	}
	for _, c := range change {
		c(&cfg)
	}
	go func() { a.result <- drone.Run(ctx, cfg, nc, rt) }()
	tb.Cleanup(func() {
		close(hurry)
		_ = a.end()
	})
	return a
}

// end stops the drone and gives what it returned.
func (a *agent) end() error {
	a.stop()
	select {
	case err := <-a.result:
		a.result <- err
		return err
	case <-time.After(testkit.Patience):
		a.t.Error("the drone did not stop")
		return nil
	}
}

func (a *agent) awaitReady() {
	a.t.Helper()
	select {
	case <-a.ready:
	case err := <-a.result:
		a.result <- err
		a.t.Fatalf("the drone ended: %v", err)
	case <-time.After(testkit.Patience):
		a.t.Fatal("the drone did not become ready")
	}
}

// rig is a server, the workers' side and a drone on a fake runtime, ready.
func rig(tb testing.TB, change ...func(*drone.Config)) (*hub, *fake.Runtime, *agent) {
	tb.Helper()
	server := natstest.Server(tb)
	h := newHub(tb, server.URL())
	rt, a := rigOn(tb, server.URL(), change...)
	return h, rt, a
}

// rigOn is a drone alone, ready.
func rigOn(tb testing.TB, url string, change ...func(*drone.Config)) (*fake.Runtime, *agent) {
	tb.Helper()
	rt := fake.New()
	tb.Cleanup(func() { _ = rt.Close() })
	a := start(tb, url, rt, change...)
	a.awaitReady()
	return rt, a
}
