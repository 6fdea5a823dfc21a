package cli

import (
	"net"
	"strings"
	"testing"
)

// The demand: an address that another process has is no wrong use, after which units do not start a role again: it is free a moment later,
// as when the proxy before this one still drains. An address that is none is wrong use.
func TestTakenAddressIsNoWrongUse(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() })
	addr := taken.Addr().String()
	// As at a machine's start, before its network is there.
	if _, stderr, code := jetway(t, "drone", "--cluster", "a", "--nats", "nats://127.0.0.1:1", "--process-root", "/", "--ip", "192.0.2.1"); code != ExitFailed || !strings.Contains(stderr, "--ip: this machine does not have 192.0.2.1") {
		t.Errorf("a drone ends with %d and says %s", code, stderr)
	}
	for _, role := range [][]string{
		{"proxy", "--nats", "nats://127.0.0.1:1", "--listen"},
		{"proxy", "--nats", "nats://127.0.0.1:1", "--listen", "127.0.0.1:0", "--metrics-addr"},
		{"gateway", "--nats", "nats://127.0.0.1:1", "--listen"},
		{"worker", "--nats", "nats://127.0.0.1:1", "--postgres", "postgres://127.0.0.1:1/x", "--metrics-addr"},
		{"dns", "--nats", "nats://127.0.0.1:1", "--zone", "c.test=c.test", "--nameserver", "ns.other.test", "--listen"},
	} {
		for value, want := range map[string]struct {
			code int
			says string
		}{
			addr:            {ExitFailed, addr + " is in use by another process (failed): stop that one, or choose another address"},
			"192.0.2.1:0":   {ExitFailed, "this machine does not have 192.0.2.1:0 (failed)"},
			"127.0.0.1:no!": {ExitUsage, "(usage)"},
		} {
			_, stderr, code := jetway(t, append(role, value)...)
			if code != want.code || !strings.Contains(stderr, want.says) {
				t.Errorf("%v %s ends with %d and says %s", role, value, code, stderr)
			}
		}
	}
}
