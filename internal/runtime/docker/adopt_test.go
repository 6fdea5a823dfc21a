package docker_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/client"

	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/docker"
	"github.com/jetway-project/jetway/internal/testkit"
)

// reopen is the next agent of the drone.
func (s *stage) reopen() {
	s.t.Helper()
	if err := s.Close(); err != nil {
		s.t.Fatal(err)
	}
	s.open()
}

func (s *stage) adopt(spec runtime.Spec, handle string) runtime.Instance {
	s.t.Helper()
	instance, err := s.Adopt(s.t.Context(), spec, handle)
	if err != nil {
		s.t.Fatal(err)
	}
	return instance
}

func (s *stage) found() []string {
	s.t.Helper()
	ids, err := s.Find(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	slices.Sort(ids)
	return ids
}

func TestAdoptsWhatRuns(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	spec := s.spec("serve")
	first := s.start(spec)
	s.line("ready")
	other := s.spec("serve")
	s.start(other)
	s.reopen()
	if want := slices.Sorted(slices.Values([]string{spec.BackendID, other.BackendID})); !slices.Equal(s.found(), want) {
		t.Fatalf("found %v, want %v", s.found(), want)
	}
	second := s.adopt(spec, first.Handle())
	if second.Handle() != first.Handle() || second.Address() != first.Address() || second.PID() != first.PID() {
		t.Fatalf("got %s at %s, had %s at %s", second.Handle(), second.Address(), first.Handle(), first.Address())
	}
	resp, err := http.Head("http://" + second.Address())
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	// Without the handle, by the backend's name.
	third := s.adopt(other, "")
	for _, instance := range []runtime.Instance{second, third} {
		if err := instance.Terminate(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		if exit := s.exit(instance); exit != (runtime.Exit{}) {
			t.Fatalf("ended with %v", exit)
		}
	}
	testkit.Eventually(t, "the removal of the containers", func() bool { return len(s.found()) == 0 })
}

// What ended while no agent ran, or after the agent saw it and before it could say
// so, comes with its exit code.
func TestAdoptsWhatHasEnded(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(c *docker.Config) { c.RemoveAfter = time.Hour })
	seen := s.spec("exit 7")
	one := s.start(seen)
	s.exit(one)
	unseen := s.spec("quiet")
	two := s.start(unseen)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.engine.ContainerKill(t.Context(), two.Handle(), client.ContainerKillOptions{}); err != nil {
		t.Fatal(err)
	}
	s.config.RemoveAfter = 100 * time.Millisecond
	s.open()
	if got := len(s.found()); got != 2 {
		t.Fatalf("found %d backends", got)
	}
	for spec, want := range map[*runtime.Spec]int{&seen: 7, &unseen: 137} {
		instance := s.adopt(*spec, "")
		select {
		case <-instance.Done():
		default:
			t.Fatal("it does not count as ended")
		}
		if exit := instance.Exit(); exit.Code != want {
			t.Errorf("ended with %v, want %d", exit, want)
		}
	}
	testkit.Eventually(t, "the removal of the containers", func() bool { return len(s.found()) == 0 })
	// And what is not there any more has ended as well.
	for _, handle := range []string{"", one.Handle()} {
		instance := s.adopt(seen, handle)
		select {
		case <-instance.Done():
		default:
			t.Fatal("it does not count as ended")
		}
		if exit := instance.Exit(); exit.Code != -1 || exit.Message == "" {
			t.Errorf("ended with %v", exit)
		}
	}
}

// An agent that died between making a container and starting it leaves one that never
// runs.
func TestAdoptsWhatWasNeverStarted(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	spec := s.spec("serve")
	_, err := s.engine.ContainerCreate(t.Context(), client.ContainerCreateOptions{
		Name: "jetway-" + spec.BackendID, Image: image(t, "odd"),
	})
	if err != nil {
		t.Fatal(err)
	}
	// It is nobody's, and not touched.
	t.Cleanup(func() {
		if _, err := s.engine.ContainerRemove(contextOf(t), "jetway-"+spec.BackendID, client.ContainerRemoveOptions{}); err != nil {
			t.Error(err)
		}
	})
	if exit := s.adopt(spec, "").Exit(); exit.Code != -1 {
		t.Errorf("ended with %v", exit)
	}
	if _, err := s.Start(t.Context(), spec); err == nil || !strings.Contains(err.Error(), "already in use") {
		t.Errorf("started beside it: %v", err)
	}

	mine := s.spec("serve")
	s.create(mine)
	instance := s.adopt(mine, "")
	select {
	case <-instance.Done():
	default:
		t.Fatal("it does not count as ended")
	}
	if len(s.found()) > 0 {
		t.Fatal("it was left")
	}
}

// create makes a backend's container without starting it.
func (s *stage) create(spec runtime.Spec) {
	s.t.Helper()
	_, err := s.engine.ContainerCreate(s.t.Context(), client.ContainerCreateOptions{
		Name: "jetway-" + spec.BackendID, Config: containerConfig(s, spec),
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

// Containers of another drone are none of ours.
func TestOtherDronesContainers(t *testing.T) {
	t.Parallel()
	theirs, ours := newStage(t, nil), newStage(t, nil)
	spec := theirs.spec("serve")
	instance := theirs.start(spec)
	if found := ours.found(); len(found) > 0 {
		t.Errorf("found %v", found)
	}
	for _, handle := range []string{"", instance.Handle()} {
		if exit := ours.adopt(spec, handle).Exit(); exit.Code != -1 {
			t.Errorf("adopted with %v", exit)
		}
	}
	select {
	case <-instance.Done():
		t.Fatal("it was ended")
	default:
	}
}

// The output of the time without an agent comes afterwards, and nothing twice.
func TestOutputGoesOnAfterAdoption(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(c *docker.Config) { c.StateDir, c.LogLines, c.LogBytes = t.TempDir(), 100_000, 16<<20 })
	spec := s.spec("count 5")
	instance := s.start(spec)
	var counts, errs []int
	take := func(line runtime.Line) {
		for prefix, into := range map[string]*[]int{"count ": &counts, "errors ": &errs} {
			if rest, ok := strings.CutPrefix(line.Text, prefix); ok {
				n, err := strconv.Atoi(rest)
				if err != nil {
					t.Fatal(err)
				}
				*into = append(*into, n)
			}
		}
	}
	for range 3 {
		for seen := len(counts); len(counts) < seen+30; {
			take(testkit.Receive(t, s.lines, "a line"))
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, "more output than can be on its way", func() bool {
			log, err := s.engine.ContainerLogs(t.Context(), instance.Handle(), client.ContainerLogsOptions{ShowStdout: true, Tail: "1"})
			if err != nil {
				return false // Podman cannot read its log while it is written to, now and then
			}
			defer log.Close()
			var last bytes.Buffer
			if _, err := stdcopy.StdCopy(&last, io.Discard, log); err != nil {
				t.Fatal(err)
			}
			var n int
			_, err = fmt.Sscanf(last.String(), "count %d", &n)
			return err == nil && n > len(counts)+50
		})
		s.open()
		instance = s.adopt(spec, instance.Handle())
	}
	if err := instance.Terminate(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	s.exit(instance)
	last := -1
	for _, line := range s.rest() {
		take(line)
		if rest, ok := strings.CutPrefix(line.Text, "counted "); ok {
			last, _ = strconv.Atoi(rest)
		}
	}
	for name, got := range map[string][]int{"count": counts, "errors": errs} {
		if len(got) != last+1 {
			t.Errorf("%d lines %s, of %d", len(got), name, last+1)
		}
		for n := range got {
			if got[n] != n {
				t.Fatalf("%s: line %d is number %d", name, n, got[n])
			}
		}
	}
}
