package drone_test

import (
	"strings"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// I8: workers that take each registration, and know nothing of it a moment later, are asked with growing pauses.
func TestI8DroneWhoseSessionsAreForgottenAtOnceRegistersWithGrowingPauses(t *testing.T) {
	t.Parallel()
	h, _, _ := rig(t)
	h.set(func() { h.everyMS = time.Hour.Milliseconds() }) // else no pause is longer than that
	h.set(func() { h.onRegister, h.session = func() { h.session = "another's" }, "another's" })
	began := time.Now()
	before := len(h.registered())
	testkit.Eventually(t, "it registers five times more", func() bool { return len(h.registered()) >= before+5 })
	// At their shortest, the four pauses between them come to a second; without them it registers twenty times in that time.
	if took := time.Since(began); took < time.Second/2 {
		t.Errorf("it registered five times within %s", took)
	}
	h.set(func() { h.onRegister = func() {} })
	last := len(h.registered())
	testkit.Eventually(t, "it has a session again", func() bool { return len(h.registered()) > last || h.lastHeartbeat().Session == h.current() })
}

func (h *hub) current() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.session
}

// The demand: the last that an agent says which is stopped, and leaves its backends to the next, is that it was.
func TestStoppedAgentSaysSoLast(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a := s.run()
	a.awaitReady()
	if last := s.lastHeartbeat(); !last.Ready || last.NotReady != "" {
		t.Errorf("it says before that %+v", last)
	}
	left(t, a)
	if last := s.lastHeartbeat(); last.Ready || !strings.HasPrefix(last.NotReady, messages.AgentStopped) {
		t.Errorf("it says last that %+v", last)
	}
}
