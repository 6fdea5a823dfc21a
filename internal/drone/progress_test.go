package drone_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/boottime"
	"github.com/jetway-project/jetway/internal/drone"
	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/fake"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/messages"
)

// hands is a clock that a test moves on, and may stop.
type hands struct{ ahead, stopped atomic.Int64 }

func (h *hands) clock() time.Duration {
	now := boottime.Now()
	if at := time.Duration(h.stopped.Load()); at > 0 {
		now = at
	}
	return now + time.Duration(h.ahead.Load())
}

// stop has it go on by move alone.
func (h *hands) stop() { h.stopped.Store(int64(boottime.Now())) }

// is makes it the drone's.
func (h *hands) is(c *drone.Config) { c.Clock = h.clock }

func (h *hands) move(d time.Duration) { h.ahead.Add(int64(d)) }

// telling is a runtime that has said all of its progress when told is closed, and goes on preparing.
type telling struct {
	*fake.Runtime
	told chan struct{}
}

func (r *telling) Prepare(ctx context.Context, spec runtime.Spec) error {
	if err := r.Runtime.Prepare(ctx, spec); err != nil {
		return err
	}
	close(r.told)
	<-ctx.Done()
	return context.Cause(ctx)
}

// loading has a drone on such a runtime, whose clock stands still, load a backend that says these texts.
func loading(t *testing.T, now *hands, texts ...string) (h *hub, told <-chan struct{}, spawn func()) {
	t.Helper()
	server := natstest.Server(t)
	h = newHub(t, server.URL())
	rt := &telling{fake.New(), make(chan struct{})}
	t.Cleanup(func() { _ = rt.Close() })
	now.stop()
	start(t, server.URL(), rt, now.is).awaitReady()
	return h, rt.told, func() { h.spawn("b-1", fake.Script{Progress: texts, Address: "a:1"}.Executable()) }
}

// saying is what loading is reported to be at so far, each once: a report whose answer is long in coming is made again.
func (h *hub) saying() (list []string) {
	h.set(func() { list = slices.Compact(slices.Clone(h.progress["b-1"])) })
	return list
}

func TestProgressOfLoadingIsReportedNowAndThen(t *testing.T) {
	t.Parallel()
	var now hands
	h, told, spawn := loading(t, &now, "1 of 3 MB", "2 of 3\x00 MB", "3 of 3 MB")
	spawn()
	testkit.Receive(t, told, "all is said")
	testkit.Eventually(t, "the first is reported", func() bool { return len(h.saying()) > 0 })
	now.move(time.Minute)
	testkit.Eventually(t, "the last is reported", func() bool { return slices.Contains(h.saying(), "3 of 3 MB") })
	if got := h.saying(); !slices.Equal(got, []string{"1 of 3 MB", "3 of 3 MB"}) {
		t.Fatalf("reported %q", got)
	}
}

// However long the workers are away, of one loading there is one state to report.
func TestI8ProgressDoesNotPileUp(t *testing.T) {
	t.Parallel()
	var now hands
	h, told, spawn := loading(t, &now, "1", "2", "3", "4", "5")
	h.down()
	spawn()
	testkit.Receive(t, told, "all is said")
	h.settled()
	for range 5 {
		now.move(10 * time.Second) // in all less than a start may take
	}
	h.up()
	h.await("b-1", messages.Loading)
	testkit.Eventually(t, "the last is reported", func() bool { return slices.Contains(h.saying(), "5") })
	if got := h.saying(); len(got) > 2 {
		t.Fatalf("reported %q", got)
	}
}

// Each part of a start has its time, and the message says in which it ran out.
func TestEachPartOfAStartIsBounded(t *testing.T) {
	t.Parallel()
	var now hands
	server := natstest.Server(t)
	h := newHub(t, server.URL())
	h.set(func() { h.softMS, h.hardMS = 100*time.Hour.Milliseconds(), 100*time.Hour.Milliseconds() })
	rt := &stepwise{Runtime: fake.New(), prepare: make(chan struct{}), start: make(chan struct{})}
	start(t, server.URL(), rt, now.is, func(c *drone.Config) { c.StartupTimeout = time.Hour }).awaitReady()
	var up atomic.Bool
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !up.Load() {
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(http.StatusOK)
	}))
	defer backend.Close()
	script := fake.Script{Address: backend.Listener.Addr().String(), Progress: []string{"pulling"}, Print: []string{"a word"}}.Executable()
	const most = 30 * time.Minute // of the hour

	spawnUpTo := func(id string, status messages.Status) {
		h.spawn(id, script)
		h.await(id, messages.Loading)
		for _, next := range []struct {
			status messages.Status
			gate   chan struct{}
		}{{messages.Starting, rt.prepare}, {messages.Waiting, rt.start}} {
			if status < next.status {
				return
			}
			now.move(most)
			next.gate <- struct{}{}
			h.await(id, next.status)
		}
	}
	for id, c := range map[string]struct {
		in   messages.Status
		says string
	}{
		"b-loading":  {messages.Loading, "it was still loading after 1h0m0s; the last that it said: pulling"},
		"b-starting": {messages.Starting, "it was not started within 1h0m0s"},
		"b-waiting":  {messages.Waiting, "it did not answer HTTP at " + backend.Listener.Addr().String() + " within 1h0m0s of its start"},
	} {
		spawnUpTo(id, c.in)
		now.move(time.Hour)
		if got := h.end(id); got.Reason != messages.ReasonStartupTimeout || !strings.Contains(got.Message, c.says) {
			t.Errorf("%s ended as %+v", id, got)
		}
	}
	spawnUpTo("b-ready", messages.Waiting)
	now.move(most)
	up.Store(true)
	h.await("b-ready", messages.Ready)
	if states := statusesOf(h.await("b-ready", messages.Ready)); states[len(states)-1] != messages.Ready {
		t.Fatalf("states %v", states)
	}
}

// stepwise is a runtime that takes a step when it is told to.
type stepwise struct {
	*fake.Runtime
	prepare, start chan struct{}
}

func (r *stepwise) Prepare(ctx context.Context, spec runtime.Spec) error {
	if err := r.Runtime.Prepare(ctx, spec); err != nil {
		return err
	}
	return await(ctx, r.prepare)
}

func (r *stepwise) Start(ctx context.Context, spec runtime.Spec) (runtime.Instance, error) {
	if err := await(ctx, r.start); err != nil {
		return nil, err
	}
	return r.Runtime.Start(ctx, spec)
}

func await(ctx context.Context, gate <-chan struct{}) error {
	select {
	case <-gate:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
