package dns

import (
	"context"
	"errors"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	miekg "github.com/miekg/dns"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// serveUDP answers packets until the socket is closed. Who reads also answers: more
// are not under way than there are readers, and the rest waits in the socket, which drops (I8).
func (s *Server) serveUDP(ctx context.Context) {
	// On a host with several addresses the reply must come from the one that was
	// asked. Where it cannot be known, from the one that the system prefers.
	_ = ipv6.NewPacketConn(s.udp).SetControlMessage(ipv6.FlagDst|ipv6.FlagInterface, true)
	_ = ipv4.NewPacketConn(s.udp).SetControlMessage(ipv4.FlagDst|ipv4.FlagInterface, true)
	var readers sync.WaitGroup
	defer readers.Wait()
	var overLimit atomic.Uint64
	for range 2 * runtime.GOMAXPROCS(0) {
		readers.Go(func() {
			buffer := make([]byte, maxQuery+1)
			for {
				n, session, err := miekg.ReadFromSessionUDP(s.udp, buffer)
				if err != nil {
					if errors.Is(err, net.ErrClosed) {
						return
					}
					s.log.DebugContext(ctx, "cannot read from the socket", "err", err)
					if !pause(ctx) {
						return
					}
					continue
				}
				from, ok := session.RemoteAddr().(*net.UDPAddr)
				if !ok || from.Port == 0 {
					continue
				}
				came := byUDP
				if !s.limit.allow(from.AddrPort().Addr()) {
					// Every other one is told to come by TCP, in a packet as small as its
					// own: a real client among those who use its address gets through.
					if overLimit.Add(1)%2 == 0 {
						continue
					}
					came = limited
				}
				if reply := s.zones.answer(buffer[:n], came); reply != nil {
					if _, err := miekg.WriteToSessionUDP(s.udp, reply, session); err != nil {
						s.log.DebugContext(ctx, "cannot reply", "err", err)
					}
				}
			}
		})
	}
}

// pause keeps what fails at once from failing without end; false when ctx has ended.
func pause(ctx context.Context) bool {
	timer := time.NewTimer(50 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
