package docker_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/docker"
	"github.com/jetway-project/jetway/internal/testkit"
)

// I1: an engine that is dead, or hangs, keeps no backend alive past a hard deadline. One that was killed kills what ran
// when it comes back: the ends are seen then, not before, and backends can be started again.
func TestI1EngineThatIsAway(t *testing.T) {
	if !ownNetwork(t) {
		return
	}
	e := newEngine(t, "") // to start it takes longer than all else, so all is looked at on the way of one
	// The output that cannot be read is not waited for at length.
	s := newStageOn(t, e.Client, func(c *docker.Config) { c.OutputGrace = 100 * time.Millisecond })
	hung := s.start(s.spec("deaf", e.fields()...))
	dead := s.start(s.spec("fork 10", e.fields()...))
	s.line("ready")
	s.line("ready")

	hungry := s.start(s.spec("eat later", e.fields(limited("memory_limit_bytes", 32<<20)...)...))
	s.line("ready")

	sleepy := s.start(s.spec("quiet", e.fields()...)).(runtime.Sleeper)
	s.line("ready")
	if err := sleepy.Sleep(t.Context(), func() {}); err != nil {
		t.Fatal(err)
	}

	e.Signal(syscall.SIGSTOP)
	// The kernel's word is enough for a lack of memory, too.
	visit(t, hungry)
	if exit := s.exit(hungry); exit.Message != "out of memory: the limit is 33554432 bytes" {
		t.Errorf("ended with %v", exit)
	}
	if err := hung.Terminate(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	exit := s.exit(hung)
	if left := membersOf(t, hung.Handle()); len(left) > 0 {
		t.Fatalf("processes %v live", left)
	}
	if exit.Code != 137 && exit.Code != -1 || !strings.Contains(exit.Message, "engine did not answer") { // -1: before Linux 6.15
		t.Errorf("ended with %v", exit)
	}
	// Also where it is paused.
	if err := sleepy.Terminate(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	s.exit(sleepy)
	if left := membersOf(t, sleepy.Handle()); len(left) > 0 {
		t.Fatalf("processes %v of a paused container live", left)
	}
	e.Signal(syscall.SIGCONT)

	others := newStageOn(t, e.Client, nil)
	instances := []runtime.Instance{others.start(others.spec("serve", e.fields()...)), others.start(others.spec("quiet", e.fields()...))}
	others.line("ready")
	others.line("ready")
	e.Crash()
	if err := dead.Terminate(t.Context(), false); err == nil {
		t.Error("a soft termination without an engine counts as done")
	}
	lives(t, dead)
	if len(membersOf(t, dead.Handle())) == 0 {
		t.Fatal("it ended with the engine, so this tests nothing")
	}
	if err := dead.Terminate(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	s.exit(dead)
	if left := membersOf(t, dead.Handle()); len(left) > 0 {
		t.Fatalf("processes %v live", left)
	}

	for _, instance := range instances {
		if err := instance.Terminate(t.Context(), false); err == nil {
			t.Error("a soft termination without an engine counts as done")
		}
		lives(t, instance)
	}
	if _, err := others.Start(t.Context(), others.spec("quiet", e.fields()...)); err == nil {
		t.Error("started without an engine")
	}
	if _, err := others.Find(t.Context()); err == nil {
		t.Error("found without an engine")
	}
	if _, err := others.Adopt(t.Context(), others.spec("quiet", e.fields()...), instances[0].Handle()); err == nil {
		t.Error("adopted without an engine: it cannot tell")
	}

	e.Start()
	// What it could not remove meanwhile it removes then.
	testkit.Eventually(t, "the removal of the containers", func() bool { return len(s.found()) == 0 })
	for _, instance := range instances {
		t.Log(others.exit(instance))
		if left := membersOf(t, instance.Handle()); len(left) > 0 {
			t.Errorf("processes %v live", left)
		}
	}
	again := others.start(others.spec("exit 3", e.fields()...))
	if exit := others.exit(again); exit.Code != 3 {
		t.Fatalf("ended with %v", exit)
	}
}

// An engine that is upgraded under running backends (live-restore): they go on, with
// all of their output, and what ends meanwhile is seen at once, by the kernel's word.
func TestEngineRestartedUnderRunningBackends(t *testing.T) {
	if !ownNetwork(t) {
		return
	}
	e := newEngine(t, "", "--live-restore")
	s := newStageOn(t, e.Client, func(c *docker.Config) { c.LogLines, c.LogBytes, c.OutputGrace = 100_000, 16<<20, time.Second })
	stays := s.start(s.spec("count 5", e.fields()...))
	goes := s.start(s.spec("deaf", e.fields()...))
	counted := -1
	next := func(until int) {
		t.Helper()
		for counted < until {
			line := testkit.Receive(t, s.lines, "a line")
			if rest, ok := strings.CutPrefix(line.Text, "count "); ok {
				if counted++; rest != strconv.Itoa(counted) {
					t.Fatalf("line %q came after %d", line.Text, counted-1)
				}
			}
		}
	}
	next(20)
	e.Stop()
	if err := syscall.Kill(goes.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if exit := s.exit(goes); exit.Code != 137 && exit.Code != -1 { // -1: before Linux 6.15
		t.Errorf("ended with %v", exit)
	}
	lives(t, stays)
	e.Start()
	next(counted + 100)
	if err := stays.Terminate(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if exit := s.exit(stays); exit.Code != 0 {
		t.Errorf("ended with %v", exit)
	}
}

// lossy is the engine behind a connection that breaks: the answer to a start, or all.
type lossy struct {
	relay
	starts atomic.Int64 // so many answers to starts are lost
	taken  atomic.Int64 // so many starts find their port taken
	mu     sync.Mutex
	waits  []context.CancelFunc
}

// ServeHTTP passes a request on, and the answer perhaps not.
func (l *lossy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, "/start") && l.starts.Add(-1) >= 0 {
		l.relay.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	}
	if strings.HasSuffix(r.URL.Path, "/start") && l.taken.Add(-1) >= 0 {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = io.WriteString(w, `{"message":"rootlessport listen tcp 127.0.0.1:43849: bind: address already in use"}`)
		return
	}
	if strings.HasSuffix(r.URL.Path, "/events") || strings.HasSuffix(r.URL.Path, "/wait") {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		l.mu.Lock()
		l.waits = append(l.waits, cancel)
		l.mu.Unlock()
		r = r.WithContext(ctx)
	}
	l.relay.ServeHTTP(w, r)
}

// breakWaits breaks every stream of events, and every wait for an end, there has been.
func (l *lossy) breakWaits() (broken int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, cancel := range l.waits {
		cancel()
	}
	return len(l.waits)
}

func newLossyStage(t *testing.T) (*stage, *lossy) {
	t.Helper()
	engine := theEngine(t)
	socket, ok := strings.CutPrefix(engine.DaemonHost(), "unix://")
	if !ok {
		testkit.LeaveOut(t, "a test of Docker that is away takes an engine at a Unix socket", "unset DOCKER_HOST")
	}
	l := &lossy{relay: relay{"unix", socket}}
	server := httptest.NewServer(l)
	t.Cleanup(server.Close)
	return newStage(t, func(c *docker.Config) { c.Engine = strings.Replace(server.URL, "http://", "tcp://", 1) }), l
}

// The demand: a container whose port somebody else took between its making and its start, as can be with rootless Podman, is made anew, and
// nothing is left of the first; a start that meets it again and again is refused.
func TestContainerWhosePortIsTakenIsMadeAnew(t *testing.T) {
	t.Parallel()
	s, l := newLossyStage(t)
	l.taken.Store(2)
	if exit := s.exit(s.start(s.spec("exit 2"))); exit.Code != 2 {
		t.Errorf("ended with %v", exit)
	}
	l.taken.Store(3)
	if said := s.refused(s.spec("serve")); !strings.Contains(said, "address already in use") {
		t.Error(said)
	}
	testkit.Eventually(t, "nothing is left", func() bool { return len(s.found()) == 0 })
}

// I1: a start of which nobody knows whether it took effect is an error, and nothing of
// it runs afterwards.
func TestI1StartWithoutAnAnswerLeavesNothing(t *testing.T) {
	t.Parallel()
	s, l := newLossyStage(t)
	l.starts.Store(1)
	spec := s.spec("deaf")
	if said := s.refused(spec); !strings.Contains(said, "start the container") {
		t.Error(said)
	}
	if len(s.found()) > 0 {
		t.Fatal("it is there")
	}
	// The same with a start that is given up.
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("given up")
	cancel(why)
	if _, err := s.Start(ctx, s.spec("deaf")); err == nil {
		t.Fatal("it was started")
	}
	testkit.Eventually(t, "that nothing is there", func() bool { return len(s.found()) == 0 })
	if exit := s.exit(s.start(s.spec("exit 2"))); exit.Code != 2 {
		t.Fatalf("ended with %v", exit)
	}
}

// An end of a container elsewhere is seen however often the wait for it breaks.
func TestEndsElsewhereAreSeenOnceTheEngineAnswers(t *testing.T) {
	t.Parallel()
	s, l := newLossyStage(t)
	instance := s.start(s.spec("quiet"))
	s.line("ready")
	for n := range 3 {
		testkit.Eventually(t, "more waits", func() bool { return l.breakWaits() > n })
		lives(t, instance)
	}
	if err := instance.Terminate(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	l.breakWaits()
	if exit := s.exit(instance); exit.Code != 0 {
		t.Fatalf("ended with %v", exit)
	}
}
