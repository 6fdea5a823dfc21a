package guard

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

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
