package cli

import (
	"net"
	"os"
	"sync/atomic"
	"time"
)

// supervisor is who started this process and wants to know that it works: systemd, of units with
// Type=notify and WatchdogSec. Elsewhere there is none.
type supervisor struct {
	at   string
	said atomic.Int64
}

// notifyEvery bounds how often it is told; a watchdog has more patience than this.
const notifyEvery = time.Second

// notifyWithin bounds how long it is waited for: its socket may be full.
const notifyWithin = 10 * time.Millisecond

func newSupervisor() *supervisor { return &supervisor{at: os.Getenv("NOTIFY_SOCKET")} }

// alive tells it that the process has started, and works. It may be called often, and does not wait.
func (s *supervisor) alive() {
	now := time.Now().UnixNano()
	if said := s.said.Load(); s.at == "" || now-said < notifyEvery.Nanoseconds() || !s.said.CompareAndSwap(said, now) {
		return
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: s.at, Net: "unixgram"})
	if err != nil {
		return
	}
	defer conn.Close()
	_ = conn.SetWriteDeadline(time.Now().Add(notifyWithin))
	if _, err := conn.Write([]byte("READY=1\nWATCHDOG=1")); err != nil {
		s.said.CompareAndSwap(now, 0) // the next call tries again
	}
}
