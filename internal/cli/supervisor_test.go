package cli

import (
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/testkit"
)

// The demand: whoever supervises a unit with Type=notify hears that it has started, and works.
func TestSupervisorHearsThatItWorks(t *testing.T) {
	at := filepath.Join(t.TempDir(), "notify")
	t.Setenv("NOTIFY_SOCKET", at)
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: at, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetReadDeadline(time.Now().Add(testkit.Patience)); err != nil {
		t.Fatal(err)
	}
	s, heard := newSupervisor(), make(chan struct{})
	go func() {
		defer close(heard)
		text := make([]byte, 100)
		if n, err := conn.Read(text); err != nil || string(text[:n]) != "READY=1\nWATCHDOG=1" {
			t.Errorf("heard %q, %v", text[:n], err)
		}
	}()
	testkit.Eventually(t, "it is heard", func() bool { // on a slow machine a word may not get out in time: the next one does
		s.alive()
		return runtime.Over(heard)
	})
	t.Setenv("NOTIFY_SOCKET", "")
	newSupervisor().alive() // nobody listens
}
