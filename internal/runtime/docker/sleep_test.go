package docker_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"slices"
	"testing"

	"github.com/moby/moby/client"

	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/docker"
	"github.com/jetway-project/jetway/internal/testkit"
)

// The demand: a container sleeps and wakes, and who comes meanwhile is served when it wakes. One that somebody has unpaused is told.
func TestContainersSleep(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	if s.Sleeps() == s.isBoundless() {
		t.Fatalf("it says that it can put containers to sleep: %v", s.Sleeps())
	}
	if !s.Sleeps() {
		return
	}
	instance := s.start(s.spec("serve")).(runtime.Sleeper)
	s.line("ready")
	woken := make(chan struct{}, 10)
	sleep := func() {
		t.Helper()
		for range 2 { // again is no error
			if err := instance.Sleep(t.Context(), func() { woken <- struct{}{} }); err != nil {
				t.Fatal(err)
			}
		}
	}
	sleep()
	if _, err := instance.Usage(t.Context()); err != nil {
		t.Errorf("its use cannot be told: %v", err)
	}
	conn, err := net.Dial("tcp", instance.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := instance.Wake(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if answer, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || answer.Body.Close() != nil {
		t.Fatalf("it does not answer: %v", err)
	}
	if len(woken) > 0 {
		t.Error("who has woken it is told so")
	}
	sleep()
	if _, err := s.engine.ContainerUnpause(t.Context(), instance.Handle(), client.ContainerUnpauseOptions{}); err != nil {
		t.Fatal(err)
	}
	testkit.Receive(t, woken, "it is said to be awake")
	sleep()
	if err := instance.Terminate(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if exit := s.exit(instance); exit.Code != 137 {
		t.Errorf("ended with %v", exit)
	}
	if err := instance.Wake(t.Context()); err != nil {
		t.Errorf("wake after the end: %v", err)
	}
}

// I1: who guards a drone ends its paused containers by the engine.
func TestI1GuardEndsPausedContainersByTheEngine(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	if !s.Sleeps() {
		return
	}
	spec := s.spec("serve")
	instance := s.start(spec).(runtime.Sleeper)
	if err := instance.Sleep(t.Context(), func() {}); err != nil {
		t.Fatal(err)
	}
	ender, err := docker.NewEnder(s.config.Engine)
	if err != nil {
		t.Fatal(err)
	}
	defer ender.Close()
	left, err := ender.End(testkit.Context(t), s.config.Drone, map[string]string{spec.BackendID: ""})
	if err != nil || !slices.Equal(left, []string{spec.BackendID}) {
		t.Fatalf("it ran: %v, %v", left, err)
	}
	if exit := s.exit(instance); exit.Code != 137 {
		t.Errorf("ended with %v", exit)
	}
}
