package drone_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jetway-project/jetway/internal/boottime"
	"github.com/jetway-project/jetway/internal/drone"
	"github.com/jetway-project/jetway/internal/drone/identity"
	"github.com/jetway-project/jetway/internal/runtime/fake"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// A second agent of a name on one machine ends nothing of what the first one runs, wherever
// it keeps its data, and says who has the name.
func TestI1SecondAgentOfANameEndsNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.run().awaitReady()
	s.spawn("b-1", fake.Script{}.Executable())
	s.await("b-1", messages.Ready)
	second := s.run(func(c *drone.Config) { c.DataDir = t.TempDir() })
	err := testkit.Receive(t, second.result, "the second agent ends")
	second.result <- nil
	if !errors.Is(err, identity.ErrNameTaken) {
		t.Fatalf("got %v", err)
	}
	for _, words := range []string{s.drone, fmt.Sprint(os.Getpid()), s.dir, "another name"} {
		// Who has the name has a second to say more of itself; see the tests of identity.
		if late := words == s.dir && strings.Contains(err.Error(), "does not answer"); !late && !strings.Contains(err.Error(), words) {
			t.Errorf("it does not say %q: %v", words, err)
		}
	}
	s.lives("b-1")
	if n := len(s.registered()); n != 1 {
		t.Fatalf("%d sessions", n)
	}
}

func TestRegistrationsSayWhichMachineThisIs(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	boot, err := boottime.BootID()
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{s.dir, s.dir, "", "", t.TempDir()} {
		a := s.run(func(c *drone.Config) { c.DataDir = dir })
		a.awaitReady()
		left(t, a)
	}
	var machines []string
	for _, r := range s.registered() {
		machines = append(machines, r.MachineID)
		if r.BootID != boot {
			t.Errorf("the boot's id is %s, not %s", r.BootID, boot)
		}
	}
	if len(machines) != 5 || machines[0] != machines[1] {
		t.Fatalf("machines %v", machines)
	}
	if slices.Sort(machines); len(slices.Compact(machines)) != 4 {
		t.Fatalf("machines %v", machines)
	}
	kept, err := os.ReadFile(filepath.Join(s.dir, "machine-id"))
	if id, _, _ := strings.Cut(string(kept), " "); err != nil || !slices.Contains(machines, id) {
		t.Fatalf("%q is kept, %v", kept, err)
	}
}

// lockedBuffer has what was logged.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// A machine that another one has taken the name from ends nothing before its own deadlines
// do, takes no actions, says once who has the name, and comes back when that one is gone.
func TestI1AgentWhoseNameAnotherMachineHasKillsNothing(t *testing.T) {
	t.Parallel()
	var now hands
	var logged lockedBuffer
	h, rt, _ := rig(t, now.is, func(c *drone.Config) {
		c.Log = slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelError}))
	})
	h.spawn("b-1", fake.Script{}.Executable())
	h.await("b-1", messages.Ready)
	h.set(func() { h.machine, h.session = "elsewhere", "another" })
	tried := func() int {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.unheard
	}
	testkit.Eventually(t, "it tries to register", func() bool { return tried() > 2 })
	testkit.Eventually(t, "it takes no actions", func() bool { return !h.bound() })
	now.move(soft / 2)
	before := tried()
	testkit.Eventually(t, "it goes on", func() bool { return tried() > before+1 })
	if len(rt.Live()) != 1 {
		t.Fatal("it was ended")
	}
	now.move(soft / 2)
	testkit.Eventually(t, "it ends with its lease", empty(rt))
	if n := strings.Count(logged.String(), "the name is that of machine elsewhere"); n != 1 {
		t.Errorf("said %d times: %s", n, logged.String())
	}
	h.set(func() { h.machine = "" })
	if got := h.end("b-1"); got.Reason != messages.ReasonKeyExpired {
		t.Fatalf("ended as %+v", got)
	}
	h.spawn("b-2", fake.Script{}.Executable())
	h.await("b-2", messages.Ready)
}

// bound says that somebody listens for actions.
func (h *hub) bound() bool {
	ctx := testkit.Context(h.t)
	consumer, err := h.js.PushConsumer(ctx, messages.StreamActions, h.drone)
	if err != nil {
		h.t.Error(err)
		return false
	}
	return consumer.CachedInfo().PushBound
}

// An agent that has lost its name, and has not heard so yet, gets the actions of the one that has it.
// It leaves them to that one.
func TestI3ActionsOfALaterSessionAreLeftToIt(t *testing.T) {
	t.Parallel()
	h, rt, _ := rig(t)
	h.spawn("b-0", fake.Script{}.Executable())
	h.await("b-0", messages.Ready)
	h.settled()
	h.down()
	var mine string
	h.set(func() { mine, h.session, h.machine = h.session, "another", "elsewhere" })
	h.spawn("b-1", fake.Script{}.Executable())
	h.terminate("b-2", true)
	h.publish([]byte(`{"type":"of a later version"}`))
	// What is its own it takes, after those.
	h.spawn("b-3", fake.Script{}.Executable(), func(s *messages.Spawn) { s.Session = mine })
	h.terminate("b-0", true)
	left := func(n uint64) {
		t.Helper()
		testkit.Eventually(t, "it has acknowledged what is its own", func() bool { return h.unacknowledged() <= n })
		if got := h.unacknowledged(); got != n {
			t.Fatalf("%d are left of the other's %d", got, n)
		}
	}
	left(3)
	testkit.Eventually(t, "b-3 alone runs", func() bool { return slices.Equal(ids(rt.Live()), []string{"b-3"}) })
	h.up()
	testkit.Eventually(t, "it tries to register", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.unheard > 0
	})
	testkit.Eventually(t, "it takes no actions", func() bool { return !h.bound() })
	h.spawn("b-4", fake.Script{}.Executable())
	left(4)
	h.set(func() {
		for _, id := range []string{"b-1", "b-2", "b-4"} {
			if len(h.states[id]) > 0 {
				t.Errorf("it spoke of %s: %+v", id, h.states[id])
			}
		}
	})
}

// What is left of an earlier session is refused, and acknowledged once it is certain that this one
// is the last.
func TestI3ActionsOfAnEarlierSessionAreAcknowledged(t *testing.T) {
	t.Parallel()
	h, rt, _ := rig(t)
	h.spawn("b-1", fake.Script{}.Executable(), func(s *messages.Spawn) { s.Session = "before" })
	h.terminate("b-2", false)
	for _, id := range []string{"b-1", "b-2"} {
		h.end(id)
	}
	h.settled()
	if !empty(rt)() {
		t.Fatal("something runs")
	}
}
