package cli

import (
	"bytes"
	"context"
	"flag"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/messages"
)

// TestMain is jetway itself where a command runs its own program.
func TestMain(m *testing.M) {
	// What parses a command line makes much garbage, and little of it stays: to collect it as often as a program that lasts
	// costs a third of what these tests do.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
	if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-test.") {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		code := Run(ctx, Process{Args: os.Args[1:], Stdout: os.Stdout, Stderr: os.Stderr})
		stop()
		os.Exit(code)
	}
	// The longest that there is: no command gives up because the machine is slow.
	if err := os.Setenv("JETWAY_TIMEOUT", "60s"); err != nil {
		panic(err)
	}
	// Most wait more than they work. Who says -parallel has the last word.
	if err := flag.Set("test.parallel", strconv.Itoa(2*runtime.GOMAXPROCS(0))); err != nil {
		panic(err)
	}
	testkit.Main(m, endShared)
}

// fakeWorker answers as a test says, and keeps what it was asked.
type fakeWorker struct {
	t   *testing.T
	url string
	nc  *nats.Conn
	js  jetstream.JetStream

	mu    sync.Mutex
	asked []*nats.Msg
}

// newFakeWorker starts a NATS server with the streams, and answers requests on
// it: a reply is a payload, or an error.
func newFakeWorker(t *testing.T, replies map[string]func(data []byte) any) *fakeWorker {
	t.Helper()
	w := &fakeWorker{t: t, url: natstest.Server(t).URL()}
	w.nc = natstest.Conn(t, w.url)
	w.js = natstest.JetStream(t, w.nc)
	natstest.Insist(t, func() error { return bus.EnsureStreams(testkit.Context(t), w.js, bus.Streams{}) })
	for subject, reply := range replies {
		_, err := w.nc.Subscribe(subject, func(m *nats.Msg) {
			w.mu.Lock()
			w.asked = append(w.asked, m)
			w.mu.Unlock()
			answer := nats.NewMsg(m.Reply)
			value := reply(m.Data)
			if refused, ok := value.(*messages.Error); ok {
				answer.Header.Set(messages.HeaderError, refused.Message)
				answer.Header.Set(messages.HeaderErrorCode, refused.CodeString())
			}
			answer.Data = messages.Encode(value)
			_ = m.RespondMsg(answer)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.nc.FlushWithContext(testkit.Context(t)); err != nil {
		t.Fatal(err)
	}
	return w
}

// last is what was asked last.
func (w *fakeWorker) last() *nats.Msg {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.asked) == 0 {
		w.t.Fatal("nothing was asked")
	}
	return w.asked[len(w.asked)-1]
}

// publish puts states of a backend into the stream of events.
func (w *fakeWorker) publish(backend string, states ...messages.State) {
	w.t.Helper()
	for _, state := range states {
		event := messages.NewStateEvent(backend, time.Now(), state)
		ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
		if _, err := w.js.Publish(ctx, messages.BackendEventSubject(backend), messages.Encode(event)); err != nil {
			w.t.Errorf("publish: %v", err)
		}
		cancel()
	}
}

// output collects what a command writes, and tells of it.
type output struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	wake chan struct{}
}

func newOutput() *output { return &output{wake: make(chan struct{}, 1)} }

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	select {
	case o.wake <- struct{}{}:
	default:
	}
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// await waits until the output matches.
func (o *output) await(t *testing.T, pattern string) []string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	limit := time.NewTimer(testkit.Patience)
	defer limit.Stop()
	for {
		if match := re.FindStringSubmatch(o.String()); match != nil {
			return match
		}
		select {
		case <-o.wake:
		case <-limit.C:
			t.Fatalf("no %s in:\n%s", pattern, o)
		}
	}
}

// clock is when commands believe to run, where ages are shown.
var clock = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

// inTests is what commands have in tests: they look often, and bear a slow machine.
func inTests() trial { return trial{look: 20 * time.Millisecond, bound: testkit.Patience} }

// jetway runs a command to its end.
func jetway(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	return jetwayIn(testkit.Context(t), t, args...)
}

// measured runs a bench to its end. It does many things one after another, each of which it bounds itself: all of them
// together may take any time.
func measured(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	return jetwayIn(t.Context(), t, append([]string{"bench"}, args...)...)
}

func jetwayIn(ctx context.Context, t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	out, errs, atClock := newOutput(), newOutput(), inTests()
	atClock.now = func() time.Time { return clock }
	code = Run(ctx, Process{Args: args, Stdout: out, Stderr: errs, trial: atClock})
	return clocks.ReplaceAllString(out.String(), "TIME"), errs.String(), code
}

// command is one that runs beside the test.
type command struct {
	t              *testing.T
	args           []string
	stdout, stderr *output
	stop           context.CancelFunc
	code           chan int
}

// begin runs a command until it ends, or stop is called, as it is when the test ends.
func begin(t *testing.T, args ...string) *command {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	c := &command{t: t, args: args, stdout: newOutput(), stderr: newOutput(), stop: stop, code: make(chan int, 1)}
	var running sync.WaitGroup
	running.Go(func() { c.code <- Run(ctx, Process{Args: args, Stdout: c.stdout, Stderr: c.stderr, trial: inTests()}) })
	t.Cleanup(func() { stop(); running.Wait() })
	return c
}

// ends waits for the command's end, and its exit code.
func (c *command) ends(code int) {
	c.t.Helper()
	wantCode(c.t, testkit.Receive(c.t, c.code, "the end of jetway "+strings.Join(c.args, " ")), code)
}

var clocks = regexp.MustCompile(`\d\d:\d\d:\d\d\.\d{3}`)

func want(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s is\n%s\nwanted\n%s", what, got, want)
	}
}

func wantCode(t *testing.T, got, want int) {
	t.Helper()
	if got != want {
		t.Errorf("exit code %d, wanted %d", got, want)
	}
}
