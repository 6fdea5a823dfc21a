package dev_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/nats-io/nats.go"
	"golang.org/x/sys/unix"

	"github.com/jetway-project/jetway/internal/dev"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
	"github.com/jetway-project/jetway/messages/client"
)

func TestMain(m *testing.M) {
	testkit.Main(m)
}

// dataDir is a directory that the user of Postgres can reach, other than t.TempDir's. It is
// in memory where there is room: a stack syncs what it writes, and where tests of other
// packages write too that takes minutes.
func dataDir(t *testing.T) string {
	t.Helper()
	const memory = "/dev/shm"
	place := ""
	var disk unix.Statfs_t
	if unix.Statfs(memory, &disk) == nil && disk.Bavail*uint64(disk.Bsize) > 1<<30 {
		place = memory
	}
	dir, err := os.MkdirTemp(place, "jetway-dev-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// roomRoot builds the demo backend into a directory.
func roomRoot(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := testkit.Build(t.Context(), dir, "github.com/jetway-project/jetway/cmd/room"); err != nil {
		t.Fatal(err)
	}
	return dir
}

func startStack(t *testing.T, cfg dev.Config) *dev.Stack {
	t.Helper()
	cfg.Log = slog.New(faultless{testkit.Logger(t).Handler(), t})
	stack, err := dev.Start(testkit.Context(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stopStack(t, stack) })
	return stack
}

// faultless is a log in which nothing may be an error, such as that the drone of the run before has this one's name.
type faultless struct {
	slog.Handler
	t *testing.T
}

func (f faultless) WithAttrs(attrs []slog.Attr) slog.Handler {
	return faultless{f.Handler.WithAttrs(attrs), f.t}
}

func (f faultless) Handle(ctx context.Context, record slog.Record) error {
	if record.Level >= slog.LevelError {
		f.t.Errorf("it logs an error: %s", record.Message)
	}
	return f.Handler.Handle(ctx, record)
}

func stopStack(t *testing.T, stack *dev.Stack) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	// Again after a test has killed it: no news.
	if err := stack.Stop(ctx); err != nil && !errors.Is(err, dev.ErrKilled) {
		t.Errorf("stop: %v", err)
	}
}

func dial(t *testing.T, stack *dev.Stack) *nats.Conn {
	t.Helper()
	nc, err := stack.Dial(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func demo(t *testing.T, stack *dev.Stack) messages.ConnectResponse {
	t.Helper()
	resp, err := stack.Demo(testkit.Context(t), dial(t, stack))
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// roomInfo is what the demo backend says of itself.
type roomInfo struct {
	BackendID    string `json:"backend_id"`
	Key          string `json:"key"`
	FencingToken string `json:"fencing_token"`
	PID          int    `json:"pid"`
}

// get fetches a URL with a client that keeps no connection.
func get(t *testing.T, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(testkit.Context(t), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func info(t *testing.T, url string) roomInfo {
	t.Helper()
	code, body := get(t, url+"info")
	var room roomInfo
	if err := json.Unmarshal([]byte(body), &room); err != nil || code != http.StatusOK {
		t.Fatalf("%d %v: %s", code, err, body)
	}
	return room
}

// alive says whether a process is there.
func alive(pid int) bool { return !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

func postmaster(t *testing.T, data string) int {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(data, "postgres", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(content), "\n")
	pid, err := strconv.Atoi(line)
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// visitor is one browser in the room.
type visitor struct {
	conn *websocket.Conn
	t    *testing.T
}

func visit(t *testing.T, url string) visitor {
	t.Helper()
	conn, err := testkit.WebSocket(t, url+"ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	return visitor{conn, t}
}

// await reads until the count of the room is n.
func (v visitor) await(n int64) {
	v.t.Helper()
	ctx := testkit.Context(v.t)
	for {
		_, data, err := v.conn.Read(ctx)
		if err != nil {
			v.t.Fatalf("wait for the count %d: %v", n, err)
		}
		var event struct{ Count *int64 }
		if json.Unmarshal(data, &event) == nil && event.Count != nil && *event.Count == n {
			return
		}
	}
}

func (v visitor) send(text string) {
	v.t.Helper()
	if err := v.conn.Write(testkit.Context(v.t), websocket.MessageText, []byte(text)); err != nil {
		v.t.Fatal(err)
	}
}

// The whole of it: a key becomes a URL, two browsers share one room, and after a
// restart the key leads to a new backend with a greater fencing token, and a host of its own. A second one on
// the same data is refused, and a backend that will not end is killed.
func TestStack(t *testing.T) {
	t.Parallel()
	data := filepath.Join(dataDir(t), "data")
	cfg := dev.Config{Data: data, ProcessRoot: roomRoot(t)}
	stack := startStack(t, cfg)
	refused(t, cfg, fmt.Sprintf("--data %s is in use by another jetway dev (process %d)", data, os.Getpid()))
	resp := demo(t, stack)
	if !resp.Spawned || resp.URL != stack.ProxyURL+"/"+resp.Token+"/" || !strings.HasPrefix(resp.URL, "http://localhost:") {
		t.Fatalf("connected to %+v", resp)
	}
	if code, page := get(t, resp.URL); code != http.StatusOK || !strings.Contains(page, "<html") {
		t.Fatalf("the page is %d %s", code, page)
	}
	room := info(t, resp.URL)
	if room.BackendID != resp.BackendID || room.Key != "demo" {
		t.Fatalf("the room is %+v", room)
	}
	ann, bob := visit(t, resp.URL), visit(t, demo(t, stack).URL) // a token each
	ann.send(`{"t":"inc"}`)
	ann.await(1)
	bob.await(1)
	bob.send(`{"t":"inc"}`)
	ann.await(2)

	server := postmaster(t, data)
	stopStack(t, stack)
	for what, pid := range map[string]int{"room": room.PID, "Postgres": server} {
		if alive(pid) {
			t.Errorf("%s, process %d, is left behind", what, pid)
		}
	}

	cfg.Grace, cfg.Origins = time.Hour, true
	stack = startStack(t, cfg)
	again := demo(t, stack)
	if !again.Spawned || again.BackendID == resp.BackendID {
		t.Fatalf("after the restart: %+v", again)
	}
	before, _ := strconv.ParseInt(room.FencingToken, 10, 64)
	after, _ := strconv.ParseInt(infoAtItsHost(t, stack, again.URL).FencingToken, 10, 64)
	if before == 0 || after <= before {
		t.Errorf("the fencing token went from %d to %d", before, after)
	}
	history, err := client.New(dial(t, stack)).History(testkit.Context(t), resp.BackendID)
	if err != nil || len(history) == 0 || history[len(history)-1].Status != messages.Terminated {
		t.Errorf("of the first backend the stream has %v, %v", history, err)
	}
	if code, _ := get(t, strings.Replace(resp.URL, resp.URL[:len(stack.ProxyURL)], stack.ProxyURL, 1)); code != http.StatusGone {
		t.Errorf("its URL gives %d", code)
	}
	stopKills(t, stack)
}

// stopKills stops a stack of which a backend will not end: it is killed by its grace, an
// hour here, or at once when stopping has to be quick.
func stopKills(t *testing.T, stack *dev.Stack) {
	t.Helper()
	resp, err := client.Request[messages.ConnectResponse](testkit.Context(t), dial(t, stack), messages.SubjectConnect, messages.ConnectRequest{
		SpawnConfig: &messages.SpawnConfig{Executable: []byte(`{"command":["room","-ignore-term"]}`), Origin: new(bool)},
	})
	if err != nil {
		t.Fatal(err)
	}
	room := info(t, resp.URL) // held until it is ready
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	stopped := make(chan error, 1)
	go func() { stopped <- stack.Stop(ctx) }()
	if err := testkit.Receive(t, stopped, "it stops"); !errors.Is(err, dev.ErrKilled) {
		t.Errorf("stop: %v", err)
	}
	if alive(room.PID) {
		t.Error("the room is left behind")
	}
}

// What cannot start says which flag is to blame, and leaves nothing behind.
func TestStartRefused(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() })
	port := taken.Addr().(*net.TCPAddr).Port
	for name, c := range map[string]struct {
		cfg  dev.Config
		want string
	}{
		"proxy port": {dev.Config{ProxyPort: port}, fmt.Sprintf("--proxy-port %d is taken: address already in use; choose another with --proxy-port, 0 for any free one", port)},
		"NATS port":  {dev.Config{NATSPort: port}, fmt.Sprintf("--nats-port %d is taken: ", port)},
		"host":       {dev.Config{ProxyHost: "nowhere.invalid"}, "--proxy-host nowhere.invalid"},
		"origin":     {dev.Config{ProxyHost: "192.0.2.1", Origins: true}, "--origin: needs a name below which sessions have theirs"},
		"root":       {dev.Config{Runtime: dev.RuntimeProcess, ProcessRoot: "/nowhere"}, "--process-root: "},
		"runtime":    {dev.Config{Runtime: "socket"}, "--runtime: must be process, docker or fake"},
		"port":       {dev.Config{ProxyPort: 70000}, "--proxy-port: must be 0 (any free one) to 65535"},
		"no data":    {dev.Config{Data: "/proc/nowhere"}, "--data: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := c.cfg
			if cfg.Data == "" {
				cfg.Data = dataDir(t)
			}
			if cfg.Runtime == "" {
				cfg.Runtime = dev.RuntimeFake
			}
			refused(t, cfg, c.want)
		})
	}
}

// refused starts what cannot start, and wants to be told why.
func refused(t *testing.T, cfg dev.Config, want string) {
	t.Helper()
	cfg.Log = testkit.Logger(t)
	stack, err := dev.Start(testkit.Context(t), cfg)
	if err == nil {
		stopStack(t, stack)
		t.Fatal("started")
	}
	if !strings.Contains(err.Error(), want) {
		t.Errorf("refused with %q, wanted %q", err, want)
	}
}

// A start that is given up leaves nothing behind, and the data as good as before. A part
// of a stack that ends by itself is told of.
func TestStartGivenUpAndPartEnds(t *testing.T) {
	t.Parallel()
	cfg := dev.Config{Data: dataDir(t), Runtime: dev.RuntimeFake, Log: testkit.Logger(t)}
	ctx, cancel := context.WithCancel(t.Context())
	var once sync.Once
	cfg.Progress = func(string) { once.Do(cancel) } // when it begins to make the database
	if stack, err := dev.Start(ctx, cfg); err == nil {
		stopStack(t, stack)
		t.Fatal("started")
	}
	cfg.Progress = nil
	stack := startStack(t, cfg)
	if err := stack.Err(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(postmaster(t, cfg.Data), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	testkit.Receive(t, stack.Done(), "the stack is done")
	if err := stack.Err(); err == nil || !strings.Contains(err.Error(), "the Postgres server has ended") {
		t.Errorf("the stack says %v", err)
	}
}
