package drone_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/boottime"
	"github.com/jetway-project/jetway/internal/drone"
	"github.com/jetway-project/jetway/internal/drone/journal"
	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/fake"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/messages"
)

// site is where runs of an agent follow each other: a machine, a data directory, and
// the workers' side.
type site struct {
	*hub
	t       *testing.T
	url     string
	machine *fakeMachine
	dir     string
}

func newSite(t *testing.T) *site {
	t.Helper()
	url := natstest.Server(t).URL()
	s := &site{hub: newHub(t, url), t: t, url: url, machine: newFakeMachine(), dir: t.TempDir()}
	s.drone = "dr-" + strings.ToLower(rand.Text()) // no other agent of this machine may have it
	t.Cleanup(func() { _ = s.machine.Close() })
	return s
}

// run starts an agent.
func (s *site) run(change ...func(*drone.Config)) *agent {
	s.t.Helper()
	return s.runOn(s.machine.runtime(), change...)
}

func (s *site) runOn(rt runtime.Runtime, change ...func(*drone.Config)) *agent {
	s.t.Helper()
	return start(s.t, s.url, rt, append([]func(*drone.Config){func(c *drone.Config) { c.Name, c.DataDir = s.drone, s.dir }}, change...)...)
}

// left ends an agent that is to leave its backends.
func left(t *testing.T, a *agent) {
	t.Helper()
	if err := a.end(); err != nil {
		t.Fatal(err)
	}
}

func ids(live []*fake.Instance) (list []string) {
	for _, i := range live {
		list = append(list, i.BackendID())
	}
	slices.Sort(list)
	return list
}

func (s *site) lives(want ...string) {
	s.t.Helper()
	if got := ids(s.machine.Live()); !slices.Equal(got, want) {
		s.t.Fatalf("%v run, not %v", got, want)
	}
}

func TestI1BackendsOutliveTheAgent(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	first := s.run()
	first.awaitReady()
	for _, id := range []string{"b-1", "b-2", "b-3"} {
		s.spawn(id, fake.Script{IgnoreTerm: id == "b-3"}.Executable())
		s.await(id, messages.Ready)
	}
	before := s.machine.Live()
	s.terminate("b-3", false)
	s.await("b-3", messages.Terminating)
	left(t, first)
	s.lives("b-1", "b-2", "b-3")
	testkit.Eventually(t, "the last heartbeat before it left came", func() bool {
		last := s.lastHeartbeat()
		return !last.Ready && last.Load.Backends == 3
	})
	late := s.spawn("b-late", fake.Script{}.Executable()) // of the session that is over
	for _, i := range before {
		if i.BackendID() == "b-2" {
			i.End(runtime.Exit{Code: 4})
		}
	}

	var now hands
	s.run(now.is).awaitReady()
	registered := s.registered()
	if second := registered[1]; second.Session == registered[0].Session || len(second.Backends) != 3 {
		t.Fatalf("registered %+v", second)
	}
	if got := s.end("b-2"); got.ExitCode == nil || *got.ExitCode != 4 || got.Reason != "" || got.LastStatus != messages.Ready {
		t.Fatalf("ended as %+v", got)
	}
	// It was asked to end before, and still is.
	now.move(grace)
	if got := s.end("b-3"); got.Kind != messages.Hard || got.Reason != messages.ReasonExternal {
		t.Fatalf("ended as %+v", got)
	}
	if got := s.end(late.BackendID); got.Reason != messages.ReasonLost {
		t.Fatalf("ended as %+v", got)
	}
	testkit.Eventually(t, "its lease is renewed", func() bool { return s.renews(1) })
	s.lives("b-1")
	if !slices.Contains(before, s.machine.Live()[0]) {
		t.Fatal("b-1 was started again")
	}
	if states := statusesOf(s.await("b-1", messages.Ready)); states[len(states)-1] != messages.Ready {
		t.Fatalf("states %v", states)
	}
	s.terminate("b-1", false)
	if got := s.end("b-1"); got.Kind != messages.Soft {
		t.Fatalf("ended as %+v", got)
	}
}

func TestI1PastItsHardDeadlineABackendIsEndedByTheNextRun(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(*site, *drone.Config) error{
		"it ran out": func(_ *site, c *drone.Config) error {
			c.Clock = boottime.Clock(boottime.Now).Offset(hard)
			return nil
		},
		"it is of another boot": func(s *site, _ *drone.Config) error { return os.Remove(filepath.Join(s.dir, "lease")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			first := s.run()
			first.awaitReady()
			s.spawn("b-1", fake.Script{IgnoreTerm: true}.Executable())
			s.await("b-1", messages.Ready)
			left(t, first)
			s.run(func(c *drone.Config) {
				if err := lose(s, c); err != nil {
					t.Fatal(err)
				}
			}).awaitReady()
			if got := s.end("b-1"); got.Kind != messages.Hard || got.Reason != messages.ReasonKeyExpired {
				t.Fatalf("ended as %+v", got)
			}
			s.lives()
		})
	}
}

// stuck is a runtime that does not get done with preparing.
type stuck struct{ *adopting }

// asked hands on what it was asked to prepare.
type asked struct {
	*adopting
	executables chan json.RawMessage
}

func (r asked) Prepare(ctx context.Context, spec runtime.Spec) error {
	r.executables <- spec.Executable
	return r.adopting.Prepare(ctx, spec)
}

// holds says whether any file of the data directory has some text.
func (s *site) holds(text string) (found bool) {
	s.t.Helper()
	err := filepath.WalkDir(s.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		file, err := os.ReadFile(path)
		found = found || strings.Contains(string(file), text)
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return found
}

func (stuck) Prepare(ctx context.Context, _ runtime.Spec) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

func TestI3SpawnThatWasNotBegunGoesOnAfterARestart(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	first := s.runOn(stuck{s.machine.runtime()})
	first.awaitReady()
	script := json.RawMessage(`{"fake":{"exit_code":3},"secret":"hush"}`)
	for _, id := range []string{"b-1", "b-2"} {
		s.spawn(id, script, func(spawn *messages.Spawn) {
			if id == "b-2" {
				spawn.Deadlines.SoftTerminateAtMS, spawn.Deadlines.HardTerminateAtMS = spawn.Deadlines.RenewAtMS+1000_000, spawn.Deadlines.RenewAtMS+1000_000
			}
		})
		s.await(id, messages.Loading)
	}
	s.terminate("b-2", false)
	s.settled()
	s.end("b-2")
	left(t, first)
	if file, err := os.ReadFile(filepath.Join(s.dir, "journal")); err != nil || strings.Contains(string(file), "hush") || !strings.Contains(string(file), "exit_code") {
		t.Fatalf("the journal has the secret, or not the rest: %v", err)
	}
	if !s.holds("hush") {
		t.Fatal("what the start of b-1 still needs is lost")
	}
	second := asked{s.machine.runtime(), make(chan json.RawMessage, 2)}
	s.runOn(second).awaitReady()
	states := statusesOf(s.await("b-1", messages.Ready))
	s.lives("b-1")
	if got := <-second.executables; !bytes.Equal(got, script) || len(second.executables) > 0 {
		t.Fatalf("it was started with %s, and %d more were", got, len(second.executables))
	}
	if s.holds("hush") {
		t.Fatal("the secret is on the disk after the start")
	}
	if slices.Contains(states, messages.Terminated) {
		t.Fatalf("states %v", states)
	}
}

func TestI1SpawnThatWasNotBegunInTimeIsLost(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	first := s.runOn(stuck{s.machine.runtime()})
	first.awaitReady()
	s.spawn("b-1", fake.Script{}.Executable())
	s.await("b-1", messages.Loading)
	left(t, first)
	s.run(func(c *drone.Config) { c.Clock = boottime.Clock(boottime.Now).Offset((soft + hard) / 2) }).awaitReady()
	if got := s.end("b-1"); got.Reason != messages.ReasonLost || !strings.Contains(got.Message, "restarted") {
		t.Fatalf("ended as %+v", got)
	}
	s.lives()
}

// Registration releases the leases of what it does not name.
func TestI1WhatNoJournalKnowsIsEndedBeforeRegistering(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	first := s.run()
	first.awaitReady()
	s.spawn("b-1", fake.Script{IgnoreTerm: true}.Executable())
	s.await("b-1", messages.Ready)
	left(t, first)
	path := filepath.Join(s.dir, "journal")
	if err := os.WriteFile(path, []byte("what is this"), 0o600); err != nil {
		t.Fatal(err)
	}
	running := -1
	s.set(func() { s.onRegister = func() { running = len(s.machine.Live()) } })
	s.run().awaitReady()
	s.set(func() {
		if running != 0 || len(s.registrations[1].Backends) != 0 {
			t.Errorf("%d ran at the registration of %v", running, s.registrations[1].Backends)
		}
	})
	if aside, _ := filepath.Glob(path + ".damaged-*"); len(aside) != 1 {
		t.Fatalf("set aside: %v", aside)
	}
	s.spawn("b-2", fake.Script{}.Executable())
	s.await("b-2", messages.Ready)
}

func TestRuntimeThatIsAwayIsWaitedForBeforeRegistering(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	first := s.run()
	first.awaitReady()
	s.spawn("b-1", fake.Script{}.Executable())
	s.await("b-1", messages.Ready)
	left(t, first)
	s.machine.setAway(errors.New("nobody there"))
	second := s.run()
	testkit.Eventually(t, "it is asked again", func() bool { return s.machine.asked() > 2 })
	if n := len(s.registered()); n != 1 {
		t.Fatalf("registered %d times", n)
	}
	// It can be stopped meanwhile, and nothing is lost by it.
	left(t, second)
	third := s.run()
	asked := s.machine.asked()
	testkit.Eventually(t, "it is asked again", func() bool { return s.machine.asked() > asked })
	s.machine.setAway(nil)
	third.awaitReady()
	s.lives("b-1")
	if got := s.registered(); len(got) != 2 || !slices.Equal(got[1].Backends, []string{"b-1"}) {
		t.Fatalf("registered %+v", got)
	}
}

func TestI5StatesSurviveARestartDuringAnOutage(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	first := s.run()
	first.awaitReady()
	s.down()
	const n = 20
	start := []messages.Status{messages.Loading, messages.Starting, messages.Waiting}
	for i := range n {
		s.spawn(fmt.Sprintf("b-%d", i), fake.Script{PrepareFor: fake.Duration(time.Millisecond), Address: "127.0.0.1:1", ExitCode: i}.Executable())
	}
	s.settled()
	testkit.Eventually(t, "all run", func() bool { return len(s.machine.Live()) == n })
	for i := range n / 2 {
		s.terminate(fmt.Sprintf("b-%d", i), false)
	}
	s.settled()
	testkit.Eventually(t, "half have ended", func() bool { return len(s.machine.Live()) == n/2 })
	left(t, first)
	second := s.run()
	s.up()
	second.awaitReady()
	for i := range n {
		want := start
		if i < n/2 {
			want = append(slices.Clone(start), messages.Terminating, messages.Terminated)
		}
		id := fmt.Sprintf("b-%d", i)
		states := s.await(id, want[len(want)-1])
		if got := statusesOf(states); !slices.Equal(got, want) {
			t.Errorf("%s: states %v, want %v", id, got, want)
		}
		if last := states[len(states)-1]; i < n/2 && (last.ExitCode == nil || *last.ExitCode != i) {
			t.Errorf("%s ended as %+v", id, last)
		}
	}
	if got := s.registered()[1].Backends; len(got) != n {
		t.Errorf("registered %d backends", len(got))
	}
	s.set(func() {
		if s.refusals != 0 {
			t.Errorf("%d reports came before the session was known", s.refusals)
		}
	})
}

func TestI1SecondAgentOnOneDataDirectoryIsRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	first := s.run()
	first.awaitReady()
	second := s.run(func(c *drone.Config) { c.Name += "-other" })
	if err := <-second.result; !errors.Is(err, journal.ErrInUse) || !strings.Contains(err.Error(), s.dir) {
		t.Fatalf("got %v", err)
	}
	second.result <- nil
	s.spawn("b-1", fake.Script{}.Executable())
	s.await("b-1", messages.Ready)
}

func TestDroneWithADataDirectorySaysHowManyItCanTakeOver(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.run().awaitReady()
	if got := s.registered()[0].MaxBackends; got != messages.MaxNamed {
		t.Fatalf("registered with room for %d", got)
	}
	bad := drone.Config{Name: droneName(t), Cluster: "localhost", DataDir: s.dir, Capacity: messages.Capacity{MaxBackends: messages.MaxNamed + 1}}
	if err := bad.Validate(); err == nil || !strings.Contains(err.Error(), "8000") {
		t.Fatalf("got %v", err)
	}
}
