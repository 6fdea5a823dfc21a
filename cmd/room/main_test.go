package main

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// started is this test binary running as the room.
type started struct {
	*exec.Cmd
	t     *testing.T
	lines *bufio.Scanner
}

// beRoom says how long the goodbye may take.
const beRoom = "ROOM_TEST_BE_ROOM"

func init() {
	if limit := os.Getenv(beRoom); limit != "" {
		goodbye, _ = time.ParseDuration(limit)
		main()
	}
}

func startRoom(t *testing.T, goodbye time.Duration, args ...string) *started {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = []string{beRoom + "=" + goodbye.String(), "PORT=0", "SESSION_BACKEND_ID=b1", "SESSION_BACKEND_KEY=k", "GORACE=atexit_sleep_ms=0"}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return &started{cmd, t, bufio.NewScanner(out)}
}

func (s *started) line() string {
	s.t.Helper()
	if !s.lines.Scan() {
		s.t.Fatalf("no more lines: %v", s.lines.Err())
	}
	return s.lines.Text()
}

func (s *started) exitCode() int {
	for s.lines.Scan() { // Wait wants the pipe read first
	}
	if err := s.Wait(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		s.t.Fatal(err)
	}
	return s.ProcessState.ExitCode()
}

func TestTermSaysGoodbye(t *testing.T) {
	t.Parallel()
	s := startRoom(t, time.Hour)
	_, address, ok := strings.Cut(s.line(), "listens on ")
	if !ok {
		t.Fatal("the first line does not say where it listens")
	}
	v := visit(t, "http://"+address, nil)
	v.hear("hello", nil)
	if line := s.line(); !strings.HasSuffix(line, "joined, 1 here") {
		t.Errorf("line %q", line)
	}
	if err := s.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	var err error
	for err == nil {
		_, _, err = v.Read(v.ctx)
	}
	if websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Errorf("closed with %v", err)
	}
	left, ended := s.line(), s.line()
	if !strings.Contains(left, "left") || ended != "room b1 ended" {
		t.Errorf("last lines %q, %q", left, ended)
	}
	if code := s.exitCode(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// For how long it does wait: TestGoodbyeIsBounded.
func TestTermDoesNotWaitForTheDeaf(t *testing.T) {
	t.Parallel()
	s := startRoom(t, 50*time.Millisecond, "--exit-code", "5")
	_, address, _ := strings.Cut(s.line(), "listens on ")
	visit(t, "http://"+address, nil) // never reads, so never answers the goodbye
	s.line()
	if err := s.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := s.exitCode(); code != 5 {
		t.Errorf("exit code %d", code)
	}
}

func TestFlagsForTestingDrones(t *testing.T) {
	t.Parallel()
	s := startRoom(t, goodbye, "--ignore-term", "--no-listen", "--print-lines", "2", "--exit-after", "300ms", "--exit-code", "3")
	if one, two := s.line(), s.line(); one != "line 1 of 2" || two != "line 2 of 2" {
		t.Errorf("lines %q, %q", one, two)
	}
	if err := s.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if line := s.line(); !strings.HasSuffix(line, "does not listen") {
		t.Errorf("line %q", line)
	}
	if code := s.exitCode(); code != 3 {
		t.Errorf("exit code %d", code)
	}
	for _, args := range [][]string{{"--no-such-flag"}, {"argument"}} {
		if code, err := run(context.Background(), args, os.Getenv, os.Stdout); code != 2 || err == nil {
			t.Errorf("%q: code %d, %v", args, code, err)
		}
	}
}
