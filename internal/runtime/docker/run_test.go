package docker_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"

	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/docker"
	"github.com/jetway-project/jetway/internal/testkit"
)

func TestServesUntilTerminated(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	instance := s.start(s.spec("serve"))
	s.line("ready")
	answers := func() bool {
		resp, err := http.Head("http://" + instance.Address())
		if err == nil {
			resp.Body.Close()
		}
		return err == nil
	}
	testkit.Eventually(t, "an answer at "+instance.Address(), answers)
	if instance.PID() == 0 {
		t.Error("the engine is here, and the first process is not known")
	}
	if !strings.HasPrefix(instance.Address(), "127.0.0.1:") {
		t.Errorf("published at %s", instance.Address())
	}
	volume := s.inspect(instance).Mounts[0].Name
	if err := instance.Terminate(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if exit := s.exit(instance); exit != (runtime.Exit{}) {
		t.Fatalf("ended with %v", exit)
	}
	s.line("ended by terminated")
	for _, hard := range []bool{false, true} {
		if err := instance.Terminate(t.Context(), hard); err != nil {
			t.Fatalf("terminate after the end: %v", err)
		}
	}
	testkit.Eventually(t, "the removal of the container", func() bool { return len(s.containers(t.Context())) == 0 })
	// With what the image has as a volume.
	if _, err := s.engine.VolumeInspect(t.Context(), volume, client.VolumeInspectOptions{}); !errdefs.IsNotFound(err) {
		t.Errorf("volume %s: %v", volume, err)
	}
}

func TestWhatTheProgramSees(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	spec := s.spec("", "env", map[string]string{"AS": "show", "GREETING": "hello = x"})
	instance := s.start(spec)
	if exit := s.exit(instance); exit.Code != 3 || exit.Signal != "" {
		t.Fatalf("ended with %v", exit)
	}
	var got []string
	for _, line := range s.rest() {
		if (line.Text == "to stderr") != (line.Stream == runtime.Stderr) || line.Time.IsZero() {
			t.Errorf("line %+v", line)
		}
		got = append(got, line.Text)
	}
	text := "\n" + strings.Join(got, "\n") + "\n"
	caps := "CapEff:\t00000000a80425fb"
	if s.isPodman() {
		caps = "CapEff:\t00000000800405fb" // fewer
	}
	for _, want := range []string{
		"env AS=show", "env GREETING=hello = x", "env FROM_IMAGE=yes", "env HOST=0.0.0.0", "env PORT=8080", "env SESSION_BACKEND_ID=" + spec.BackendID,
		"env SESSION_BACKEND_FENCING_TOKEN=7", "env JETWAY_DRONE=" + s.config.Drone, "NoNewPrivs:\t1", caps,
	} {
		if !strings.Contains(text, "\n"+want+"\n") {
			t.Errorf("no line %q in %s", want, text)
		}
	}
}

func TestDeafProgramIsKilled(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	instance := s.start(s.spec("deaf"))
	s.line("ready")
	if err := instance.Terminate(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	select {
	case <-instance.Done():
		t.Fatal("it should have ignored SIGTERM")
	default:
	}
	if err := instance.Terminate(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if exit := s.exit(instance); exit.Code != 137 {
		t.Fatalf("ended with %v", exit)
	}
}

func TestStopSignalOfTheImage(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	instance := s.start(s.spec("deaf", "image", image(t, "signal")))
	s.line("ready")
	if err := instance.Terminate(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if exit := s.exit(instance); exit.Code != 137 {
		t.Fatalf("ended with %v", exit)
	}
}

// A program that ends at once: its code, and its last words, come out.
func TestEndsAtOnce(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	for range testkit.Sized(t, 2, 5) {
		instance := s.start(s.spec("exit 7"))
		if instance.Address() == "" {
			t.Error("no address: it would count as ready")
		}
		if exit := s.exit(instance); exit.Code != 7 || exit.Message != "" {
			t.Fatalf("ended with %v", exit)
		}
		var texts []string
		for _, line := range s.rest() {
			texts = append(texts, line.Text)
		}
		if len(texts) != 3 || texts[len(texts)-1] != "no end" && texts[1] != "no end" {
			t.Fatalf("said %q", texts)
		}
	}
}

// I1: nothing of a container outlives it, also what left its session.
func TestI1ChildrenEndWithTheContainer(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	for _, hard := range []bool{false, true} {
		instance := s.start(s.spec("fork 20"))
		s.line("ready")
		members := membersOf(t, instance.Handle())
		if len(members) < 21 && !s.isBoundless() { // whose containers have no control groups
			t.Fatalf("%d processes", len(members))
		}
		if err := instance.Terminate(t.Context(), hard); err != nil {
			t.Fatal(err)
		}
		s.exit(instance)
		if left := membersOf(t, instance.Handle()); len(left) > 0 {
			t.Fatalf("processes %v live", left)
		}
	}
}

func TestRoomIsServed(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	instance := s.start(s.spec("", "image", image(t, "room"), "env", map[string]string{}))
	s.line("room ")
	testkit.Eventually(t, "the room at "+instance.Address(), func() bool {
		resp, err := http.Get("http://" + instance.Address())
		if err == nil {
			resp.Body.Close()
		}
		return err == nil && resp.StatusCode == http.StatusOK
	})
	if err := instance.Terminate(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if exit := s.exit(instance); exit.Code != 0 {
		t.Fatalf("ended with %v", exit)
	}
}

// I1: an end is an end. A container that somebody starts again has no lease.
func TestI1RestartedContainerIsRemoved(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(c *docker.Config) { c.RemoveAfter = time.Hour })
	restarted, started := s.start(s.spec("deaf")), s.start(s.spec("quiet"))
	s.line("ready")
	s.line("ready")
	now := 0
	if _, err := s.engine.ContainerRestart(t.Context(), restarted.Handle(), client.ContainerRestartOptions{Timeout: &now}); err != nil && !errdefs.IsNotFound(err) {
		t.Log(err) // it was removed while it was restarted
	}
	s.exit(restarted)
	if err := started.Terminate(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	s.exit(started)
	if _, err := s.engine.ContainerStart(t.Context(), started.Handle(), client.ContainerStartOptions{}); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the removal of the containers", func() bool { return len(s.containers(t.Context())) == 0 })
	for _, instance := range []runtime.Instance{restarted, started} {
		if left := membersOf(t, instance.Handle()); len(left) > 0 {
			t.Errorf("processes %v live", left)
		}
	}
}

func TestClosedRuntimeStartsNothing(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	spec := s.spec("serve")
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Prepare(t.Context(), spec); !errors.Is(err, runtime.ErrClosed) {
		t.Errorf("prepare: %v", err)
	}
	if _, err := s.Start(t.Context(), spec); !errors.Is(err, runtime.ErrClosed) {
		t.Errorf("start: %v", err)
	}
	if _, err := s.Adopt(t.Context(), spec, ""); !errors.Is(err, runtime.ErrClosed) {
		t.Errorf("adopt: %v", err)
	}
	if left := s.containers(t.Context()); len(left) > 0 {
		t.Errorf("containers %v", left)
	}
}

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	done := make(chan error, testkit.Sized(t, 3, 6))
	for range cap(done) {
		spec := s.spec("exit 0")
		go func() {
			instance, err := s.Start(t.Context(), spec)
			if err == nil {
				<-instance.Done()
				if exit := instance.Exit(); exit != (runtime.Exit{}) {
					err = errors.New(exit.String())
				}
			}
			done <- err
		}()
	}
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
