package guard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/boottime"
	"github.com/jetway-project/jetway/internal/procs"
	"github.com/jetway-project/jetway/internal/testkit"
)

// hand is a clock that a test moves.
type hand struct{ atomic.Int64 }

func (h *hand) clock() time.Duration { return time.Duration(h.Load()) * time.Millisecond }

// setting is a ledger, and a guard that looks when the test says so.
type setting struct {
	t      *testing.T
	ledger *Ledger
	dir    string
	hand   hand
	*guardian
}

func newSetting(t *testing.T) *setting {
	t.Helper()
	s := &setting{t: t}
	s.ledger, s.dir = newLedger(t)
	var err error
	if s.guardian, err = newGuardian(slog.New(slog.DiscardHandler), s.hand.clock, s.dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.guardian.ledger.Close() })
	return s
}

func (s *setting) put(lease Lease) {
	s.t.Helper()
	if err := s.ledger.Put(lease); err != nil {
		s.t.Fatal(err)
	}
}

// look lets the guard look at a time, and says what it thinks.
func (s *setting) look(ms int64) (next time.Duration, needed bool) {
	s.hand.Store(ms)
	return s.round(s.t.Context())
}

// lookUntilDone looks until nothing is left of what was past its deadline.
func (s *setting) lookUntilDone(ms int64) {
	s.t.Helper()
	testkit.Eventually(s.t, "nothing is left", func() bool {
		s.look(ms)
		return len(s.killing) == 0
	})
}

// watched is a process that a test watches.
type watched struct {
	t *testing.T
	*procs.Ref
}

func watch(t *testing.T, pid int) watched {
	t.Helper()
	id, err := procs.Identify(pid)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := procs.Open(id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ref.Close)
	return watched{t, ref}
}

// ends waits for the end of the process.
func (w watched) ends() {
	w.t.Helper()
	giveUp := time.AfterFunc(testkit.Patience, w.Close)
	defer giveUp.Stop()
	if err := w.Wait(); err != nil {
		w.t.Fatalf("process %d lives: %v", w.PID, err)
	}
}

func (w watched) lives() {
	w.t.Helper()
	if w.Ended() {
		w.t.Fatalf("process %d has ended", w.PID)
	}
}

// run starts a process with a backend's labels, and its children.
func run(t *testing.T, id, drone string, children ...string) (leader watched, others []watched) {
	t.Helper()
	cmd := backendCommand(self(t), id, drone, children...)
	said := listen(t, cmd)
	leader = watch(t, said.number("pid"))
	for _, child := range children {
		others = append(others, watch(t, said.number(child)))
	}
	return leader, others
}

func TestI1GuardEndsWhatIsPastItsHardDeadline(t *testing.T) {
	t.Parallel()
	s := newSetting(t)
	leader, children := run(t, "b", droneOf(s.dir), "child", "leaver")
	other, _ := run(t, "other", droneOf(s.dir))
	s.put(Lease{BackendID: "b", PID: leader.PID, SoftAtMS: 500, HardAtMS: 1000})
	s.put(Lease{BackendID: "other", PID: other.PID, SoftAtMS: 500, HardAtMS: 3000})

	if next, needed := s.look(999); next != time.Second || !needed {
		t.Fatalf("next look at %v, needed %v", next, needed)
	}
	leader.lives() // past the soft deadline, which is the agent's business

	// Renewed at the last moment.
	if err := s.ledger.Renew([]Lease{{BackendID: "b", SoftAtMS: 1500, HardAtMS: 2000}}); err != nil {
		t.Fatal(err)
	}
	s.look(1000)
	leader.lives()

	s.lookUntilDone(2000)
	leader.ends()
	for _, child := range children {
		child.ends()
	}
	other.lives()
}

// An agent that died between fork and note left a process that no slot names; a
// container may have no name of the drone.
func TestI1GuardFindsWhatTheSlotDoesNotName(t *testing.T) {
	t.Parallel()
	s := newSetting(t)
	unnoted, _ := run(t, "unnoted", droneOf(s.dir))
	container, _ := run(t, "container-"+droneOf(s.dir), "")
	otherDrones, _ := run(t, "unnoted", "dr-other")
	for _, id := range []string{"unnoted", "container-" + droneOf(s.dir)} {
		s.put(Lease{BackendID: id, HardAtMS: 1000})
	}
	s.lookUntilDone(1000)
	unnoted.ends()
	container.ends()
	otherDrones.lives()

	// One that turns up after everything seemed to have ended is found, too.
	late, _ := run(t, "unnoted", droneOf(s.dir))
	s.look(1001)
	late.lives()
	s.lookUntilDone(1000 + lookLate.Milliseconds())
	late.ends()
}

func TestGuardKillsNoStranger(t *testing.T) {
	t.Parallel()
	// None has labels: only the slot leads to it.
	for name, spoil := range map[string]func(s *setting, lease Lease){
		"a reused number": func(s *setting, lease Lease) {
			n := s.ledger.slots[lease.BackendID]
			lease.start--
			encode(s.ledger.slot(n), lease)
			if err := s.ledger.write(n, n+1); err != nil {
				t.Fatal(err)
			}
		},
		"a torn slot": func(s *setting, lease Lease) {
			n := s.ledger.slots[lease.BackendID]
			s.ledger.slot(n)[softAt]++
			if err := s.ledger.write(n, n+1); err != nil {
				t.Fatal(err)
			}
		},
		"another boot": func(s *setting, _ Lease) { s.boot = strings.Repeat("0", bootSize) },
		"removed": func(s *setting, lease Lease) {
			if err := s.ledger.Remove(lease.BackendID); err != nil {
				t.Fatal(err)
			}
		},
	} {
		s := newSetting(t)
		process, _ := run(t, "", "")
		s.put(Lease{BackendID: "b", PID: process.PID, HardAtMS: 1000})
		found, _, err := s.read()
		if err != nil || len(found) != 1 || found[0].start != process.Start {
			t.Fatalf("%s: read %v, %v", name, found, err)
		}
		spoil(s, found[0])
		s.look(2000)
		process.lives()
		if _, needed := s.look(2001); needed {
			t.Errorf("%s: the guard stays for it", name)
		}
	}
	// The same slot, not spoiled, does lead to it: so the above shows something.
	s := newSetting(t)
	process, _ := run(t, "", "")
	s.put(Lease{BackendID: "b", PID: process.PID, HardAtMS: 1000})
	s.lookUntilDone(2000)
	process.ends()
}

// A slot that is torn hides no other.
func TestI1TornSlotHidesNoOther(t *testing.T) {
	t.Parallel()
	s := newSetting(t)
	process, _ := run(t, "b", droneOf(s.dir))
	s.put(Lease{BackendID: "torn", HardAtMS: 1000})
	s.put(Lease{BackendID: "b", PID: process.PID, HardAtMS: 1000})
	n := s.ledger.slots["torn"]
	s.ledger.slot(n)[softAt]++
	if err := s.ledger.write(n, n+1); err != nil {
		t.Fatal(err)
	}
	s.lookUntilDone(1000)
	process.ends()
}

// soon is a lease that is to run out.
const soon = 300 * time.Millisecond

// ownAgent is an agent in a process of its own, with two backends: "b", which has children,
// and "marker".
type ownAgent struct {
	watched
	t       *testing.T
	dir     string
	backend []watched // b, and all of it
	marker  watched
	guard   watched
	orders  io.Writer
	said    *said
}

func startAgent(t *testing.T) *ownAgent {
	t.Helper()
	a := &ownAgent{t: t, dir: filepath.Join(t.TempDir(), "data")}
	cmd := backendCommand(self(t), "", "")
	cmd.Args = []string{self(t), "as=agent", a.dir}
	var err error
	if a.orders, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	a.said = listen(t, cmd)
	for _, name := range []string{"child", "leaver", "b"} {
		a.backend = append(a.backend, watch(t, a.said.number(name)))
	}
	a.marker = watch(t, a.said.number("marker"))
	a.watched, a.guard = watch(t, cmd.Process.Pid), watch(t, guardOf(t, a.dir))
	return a
}

// renew has it renew a lease for some times, one after the other, and gives its deadline.
func (a *ownAgent) renew(id string, times ...time.Duration) (deadline time.Duration) {
	a.t.Helper()
	if _, err := fmt.Fprintln(a.orders, id, strings.Trim(fmt.Sprint(times), "[]")); err != nil {
		a.t.Fatal(err)
	}
	delete(a.said.got, "deadline")
	return time.Duration(a.said.number("deadline")) * time.Millisecond
}

// endAt waits for the end of processes, which is not to come before a deadline.
func endAt(t *testing.T, processes []watched, deadline time.Duration) {
	t.Helper()
	for _, process := range processes {
		process.ends()
	}
	if now := boottime.Now(); now < deadline {
		t.Fatalf("ended %v before the deadline", deadline-now)
	}
}

// guardOf is the process of the guard that has the place.
func guardOf(t *testing.T, dir string) int {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, placeName))
	if err != nil {
		t.Fatal(err)
	}
	return atoi(strings.Fields(string(raw))[0])
}

func atoi(text string) (n int) {
	for _, digit := range text {
		n = n*10 + int(digit-'0')
	}
	return n
}

func TestI1BackendOfAKilledAgentEndsAtItsHardDeadline(t *testing.T) {
	t.Parallel()
	a := startAgent(t)
	a.renew("marker", soon)
	deadline := a.renew("b", soon)
	if err := a.Signal(9); err != nil {
		t.Fatal(err)
	}
	a.ends()
	endAt(t, a.backend, deadline)
	a.marker.ends()
	a.guard.ends() // nobody needs it any more
}

func TestI1BackendOfAStoppedAgentEndsAtItsHardDeadline(t *testing.T) {
	t.Parallel()
	a := startAgent(t)
	// Renewed before its deadline it lives past it: the marker ended at a later one.
	a.renew("b", 3*time.Second, far)
	deadline := a.renew("marker", 3*time.Second)
	endAt(t, []watched{a.marker}, deadline)
	for _, process := range a.backend {
		process.lives()
	}

	deadline = a.renew("b", soon)
	if err := a.Signal(19); err != nil { // SIGSTOP
		t.Fatal(err)
	}
	endAt(t, a.backend, deadline)
	a.lives()
	a.guard.lives() // the agent may come back
	if _, err := Open(a.dir, droneOf(a.dir)); !errors.Is(err, ErrHeld) {
		t.Fatalf("the stopped agent lost its directory: %v", err)
	}
	if err := a.Signal(9); err != nil {
		t.Fatal(err)
	}
	a.guard.ends()
}

func TestAgentStartsAnotherGuard(t *testing.T) {
	t.Parallel()
	ledger, dir := newLedger(t)
	ctx, cancel := context.WithCancel(t.Context())
	post := Start(ctx, slog.New(slog.DiscardHandler), []string{self(t), "as=guard"}, dir)
	defer post.Wait()
	defer cancel()
	await(t, post)
	backend, _ := run(t, "b", droneOf(dir))
	lease := Lease{BackendID: "b", PID: backend.PID, HardAtMS: (boottime.Now() + far).Milliseconds()}
	if err := ledger.Put(lease); err != nil {
		t.Fatal(err)
	}
	first := watch(t, guardOf(t, dir))
	if err := first.Signal(9); err != nil {
		t.Fatal(err)
	}
	first.ends()
	testkit.Eventually(t, "another guard has the place", func() bool { return guardOf(t, dir) != first.PID })
	second := watch(t, guardOf(t, dir))
	await(t, post)
	lease.HardAtMS = boottime.Now().Milliseconds()
	if err := ledger.Renew([]Lease{lease}); err != nil {
		t.Fatal(err)
	}
	backend.ends() // by that guard
	// It stays when the agent's watch over it ends, until nobody needs it.
	cancel()
	post.Wait()
	second.lives()
	if err := ledger.Remove("b"); err != nil {
		t.Fatal(err)
	}
	ledger.Close()
	second.ends()
}

func TestI1NewerGuardTakesOver(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]func(guard watched){
		"that guards": func(watched) {},
		"that is stopped": func(guard watched) {
			if err := guard.Signal(19); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := startAgent(t)
			before(a.guard)
			if err := a.Signal(9); err != nil {
				t.Fatal(err)
			}
			a.ends()
			ledger, err := Open(a.dir, droneOf(a.dir))
			if err != nil {
				t.Fatal(err)
			}
			defer ledger.Close()
			found := map[string]int{}
			for _, lease := range ledger.Found() {
				found[lease.BackendID] = lease.PID
			}
			if want := map[string]int{"b": a.backend[2].PID, "marker": a.marker.PID}; !maps.Equal(found, want) {
				t.Fatalf("found %v, want %v", found, want)
			}
			post := Start(t.Context(), slog.New(slog.DiscardHandler), []string{self(t), "as=guard"}, a.dir)
			t.Cleanup(post.Wait)
			await(t, post)
			a.guard.ends()
			second := watch(t, guardOf(t, a.dir))
			at := (boottime.Now() + soon).Milliseconds()
			if err := ledger.Renew([]Lease{{BackendID: "b", HardAtMS: at}, {BackendID: "marker", HardAtMS: at}}); err != nil {
				t.Fatal(err)
			}
			endAt(t, append(a.backend, a.marker), time.Duration(at)*time.Millisecond)
			second.lives()
			for id := range found {
				if err := ledger.Remove(id); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestNoGuardStandsWithoutAProgram(t *testing.T) {
	t.Parallel()
	_, dir := newLedger(t)
	for _, command := range [][]string{{filepath.Join(dir, "missing")}, {"/bin/false"}, {"/bin/echo", "hello, I am not a guard"}} {
		ctx, cancel := context.WithCancel(t.Context())
		said := make(chan string, 100)
		post := Start(ctx, slog.New(teller{said: said}), command, dir)
		for range 2 { // it goes on trying
			if text := <-said; !strings.Contains(text, "no guard stands") {
				t.Errorf("%v: said %q", command, text)
			}
		}
		if post.Stands() {
			t.Errorf("%v stands", command)
		}
		cancel()
		post.Wait()
		if err := post.Await(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("%v: got %v", command, err)
		}
	}
}

func await(t *testing.T, post *Post) {
	t.Helper()
	if err := post.Await(testkit.Context(t)); err != nil {
		t.Fatal(err)
	}
	if !post.Stands() {
		t.Fatal("it does not stand")
	}
}

// teller hands out what is logged.
type teller struct {
	slog.Handler
	said chan string
}

func (l teller) Enabled(context.Context, slog.Level) bool { return true }

func (l teller) Handle(_ context.Context, r slog.Record) error {
	select {
	case l.said <- r.Message:
	default:
	}
	return nil
}
