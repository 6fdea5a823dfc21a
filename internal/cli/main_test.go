package cli

import (
	"bytes"
	"context"
	"os"
	"os/signal"
	"regexp"
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
	"github.com/jetway-project/jetway/messages"
)

// TestMain is jetway itself where a command runs its own program.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-test.") {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		code := Run(ctx, Process{Args: os.Args[1:], Stdout: os.Stdout, Stderr: os.Stderr})
		stop()
		os.Exit(code)
	}
	testkit.Main(m)
}

// patience is far more than anything here takes.
const patience = 20 * time.Second

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
	var err error
	w := &fakeWorker{t: t, url: testkit.NATS(t).URL()}
	if w.nc, err = nats.Connect(w.url); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.nc.Close)
	if w.js, err = jetstream.New(w.nc); err != nil {
		t.Fatal(err)
	}
	if err := bus.EnsureStreams(t.Context(), w.js, bus.Streams{}); err != nil {
		t.Fatal(err)
	}
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
	if err := w.nc.Flush(); err != nil {
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
		if _, err := w.js.Publish(context.Background(), messages.BackendEventSubject(backend), messages.Encode(event)); err != nil {
			w.t.Errorf("publish: %v", err)
		}
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
	limit := time.After(patience)
	for {
		if match := re.FindStringSubmatch(o.String()); match != nil {
			return match
		}
		select {
		case <-o.wake:
		case <-limit:
			t.Fatalf("no %s in:\n%s", pattern, o)
		}
	}
}

// jetway runs a command to its end.
func jetway(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	return jetwayWithin(t, patience, args...)
}

// jetwayWithin is jetway for what takes long.
func jetwayWithin(t *testing.T, limit time.Duration, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	out, errs := newOutput(), newOutput()
	code = Run(ctx, Process{Args: args, Stdout: out, Stderr: errs})
	return clocks.ReplaceAllString(out.String(), "TIME"), errs.String(), code
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
		t.Errorf("exit code %s, wanted %s", strconv.Itoa(got), strconv.Itoa(want))
	}
}
