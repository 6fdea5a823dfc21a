package guard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/boottime"
	"github.com/jetway-project/jetway/internal/drone/journal"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
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
	a := &ownAgent{t: t, dir: dataDir(t)}
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

// renew has it renew the lease of a backend, or of "all", for some times, one after the other, and gives its deadline.
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

// guardOf is the process of the guard that says that it stands.
func guardOf(t *testing.T, dir string) int {
	t.Helper()
	n, err := readNote(dir)
	if err != nil {
		t.Fatal(err)
	}
	return n.PID
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
	if _, err := open(a.dir); !errors.Is(err, journal.ErrInUse) {
		t.Fatalf("the stopped agent lost its directory: %v", err)
	}
	if err := a.Signal(9); err != nil {
		t.Fatal(err)
	}
	a.guard.ends()
}

func TestAgentStartsAnotherGuard(t *testing.T) {
	t.Parallel()
	j, dir := newJournal(t)
	ctx, cancel := context.WithCancel(t.Context())
	post := Start(ctx, slog.New(slog.DiscardHandler), []string{self(t), "as=guard", dir}, dir, func() {})
	defer post.Wait()
	defer cancel()
	await(t, post)
	backend, _ := run(t, "b", droneOf(dir))
	if err := put(j, "b", journal.State{Status: messages.Ready, PID: backend.PID, Start: backend.Start, Own: &journal.Lease{HardAtMS: (boottime.Now() + far).Milliseconds()}}); err != nil {
		t.Fatal(err)
	}
	first := watch(t, guardOf(t, dir))
	if err := first.Signal(9); err != nil {
		t.Fatal(err)
	}
	first.ends()
	testkit.Eventually(t, "another guard stands", func() bool { return guardOf(t, dir) != first.PID })
	second := watch(t, guardOf(t, dir))
	await(t, post)
	j.Note(journal.Change{BackendID: "b", State: &journal.State{Status: messages.Ready, PID: backend.PID, Start: backend.Start, Own: &journal.Lease{HardAtMS: boottime.Now().Milliseconds()}}})
	backend.ends() // by that guard
	if err := put(j, "next", journal.State{Status: messages.Ready, Own: &journal.Lease{HardAtMS: (boottime.Now() + far).Milliseconds()}}); err != nil {
		t.Fatal(err)
	}
	// It stays when the agent's watch over it ends, until nobody needs it.
	cancel()
	post.Wait()
	second.lives()
	j.Note(journal.Change{BackendID: "next", Over: true})
	second.ends()
}

// I1: the guard of the next agent stands beside the one before, which goes then: also one that was stopped,
// once it runs again.
func TestI1NextGuardTakesOver(t *testing.T) {
	t.Parallel()
	for name, signal := range map[string]syscall.Signal{"that guards": 0, "that is stopped": syscall.SIGSTOP} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := startAgent(t)
			if err := a.guard.Signal(signal); err != nil {
				t.Fatal(err)
			}
			if err := a.Signal(9); err != nil {
				t.Fatal(err)
			}
			a.ends()
			j := reopen(t, a.dir)
			post := Start(t.Context(), slog.New(slog.DiscardHandler), []string{self(t), "as=guard", a.dir}, a.dir, func() {})
			t.Cleanup(post.Wait)
			testkit.Eventually(t, "the next one stands", func() bool { return guardOf(t, a.dir) != a.guard.PID })
			second := watch(t, guardOf(t, a.dir))
			await(t, post)
			if err := a.guard.Signal(syscall.SIGCONT); err != nil && signal != 0 {
				t.Fatal(err)
			}
			a.guard.ends()
			at := (boottime.Now() + soon).Milliseconds()
			if err := j.Renew(journal.Lease{SoftAtMS: at, HardAtMS: at}); err != nil {
				t.Fatal(err)
			}
			endAt(t, append(a.backend, a.marker), time.Duration(at)*time.Millisecond)
			second.lives()
			for _, id := range []string{"b", "marker"} {
				j.Note(journal.Change{BackendID: id, Over: true})
			}
		})
	}
}

// A guard that is stopped, or hangs, does not stand, and another one is started.
func TestI1GuardThatHangsIsReplaced(t *testing.T) {
	testkit.Long(t) // it takes as long as a guard's word is believed
	t.Parallel()
	_, dir := newJournal(t)
	post := Start(t.Context(), slog.New(slog.DiscardHandler), []string{self(t), "as=guard", dir}, dir, func() {})
	t.Cleanup(post.Wait)
	await(t, post)
	first := watch(t, guardOf(t, dir))
	if err := first.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	first.ends()
	testkit.Eventually(t, "another guard stands", func() bool { return guardOf(t, dir) != first.PID && post.Trouble() == nil })
}

// A guard that is a service of its own needs no agent: it is there before the first, and after the last.
func TestGuardAsAServiceNeedsNoAgent(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	command := exec.Command(self(t), "as=service", dir)
	listen(t, command)
	service := watch(t, command.Process.Pid)
	j := reopen(t, dir)
	post := Start(t.Context(), slog.New(slog.DiscardHandler), nil, dir, func() {})
	t.Cleanup(post.Wait)
	await(t, post)
	backend, _ := run(t, "b", droneOf(dir))
	if err := put(j, "b", journal.State{Status: messages.Ready, PID: backend.PID, Start: backend.Start}); err != nil { // it has no lease
		t.Fatal(err)
	}
	backend.ends()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	service.lives()
	if err := service.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	service.ends()
	testkit.Eventually(t, "it is said that none stands", func() bool { return post.Trouble() != nil })
}
