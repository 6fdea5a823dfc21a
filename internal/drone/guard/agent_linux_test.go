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
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/boottime"
	"github.com/jetway-project/jetway/internal/testkit"
)

// soon is a lease that is to run out, later one that is to be renewed before it does, and then seen past its end.
const soon = 300 * time.Millisecond

var later = testkit.Patience / 36

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
	a.renew("b", later, far)
	deadline := a.renew("marker", later)
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
