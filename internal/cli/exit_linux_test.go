package cli

import (
	"net/http"
	"syscall"
	"testing"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// The demand: told to stop, an agent leaves what runs to the next one, or with --drain-on-exit
// waits for its end, taking nothing more and saying how much is left.
func TestToldToStopAnAgentLeavesOrDrains(t *testing.T) {
	t.Parallel()
	s := newSite(t, "process")
	told := newOutput()
	s.stderr = told
	data := t.TempDir()
	agent, session := s.agent(data, "", "--drain-on-exit=false", "--drain-timeout", "0s")
	room := map[string]any{"command": []string{"room"}}
	resp := s.connect("doc", room)
	ws, err := testkit.WebSocket(t, resp.URL+"ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	s.count(ws, 1)
	stop := func() {
		t.Helper()
		if err := agent.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	if err := agent.Wait(); err != nil {
		t.Errorf("told to stop it ends with: %v", err)
	}
	s.count(ws, 2)

	agent, _ = s.agent(data, session, "--log-level", "info", "--drain-timeout", "10m")
	s.count(ws, 3)
	stop()
	told.await(t, `draining[^\n]*"left":1`)
	testkit.Eventually(t, "the workers hear of it", func() bool { return !s.info().Ready })
	if _, err = s.tryConnect("other", room); messages.KindOf(err) != messages.NoDroneAvailable {
		t.Errorf("a spawn on a drone that drains gets %v", err)
	}
	s.count(ws, 4)
	if _, err := insist[messages.BackendInfo](t, s.nc, messages.SubjectTerminate, messages.TerminateRequest{BackendID: resp.BackendID}); err != nil {
		t.Fatal(err)
	}
	if err := agent.Wait(); err != nil {
		t.Errorf("drained it ends with: %v", err)
	}
	told.await(t, `"msg":"drained"`)
	s.awaitStatus(resp.BackendID, messages.Terminated)
	if code, text := get(t, resp.URL+"info"); code != http.StatusGone {
		t.Errorf("its URL answers %d %s", code, text)
	}
}
