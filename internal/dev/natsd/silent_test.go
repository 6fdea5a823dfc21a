package natsd_test

import (
	"bufio"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/dev/natsd"
	"github.com/jetway-project/jetway/internal/testkit"
)

// A client that answers nothing, as one that is frozen, is cut, and long before NATS would by itself do so.
func TestASilentClientIsCut(t *testing.T) {
	t.Parallel()
	s, err := natsd.Start(natsd.Config{StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL(), "nats://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(testkit.Patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("CONNECT {\"verbose\":false}\r\nPING\r\nSUB jetway.ctl.connect q 1\r\n")); err != nil {
		t.Fatal(err)
	}
	began, pings := time.Now(), 0
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		switch line := lines.Text(); {
		case line == "PING":
			pings++
		case strings.Contains(line, "Stale Connection"):
			t.Logf("cut after %s and %d pings", time.Since(began).Round(time.Second), pings)
			return
		}
	}
	t.Errorf("not cut within %s; %d pings", time.Since(began), pings)
}
