package proxy

import (
	"errors"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

const (
	// A client may ask for strangerBurst tokens that lead nowhere at once, and strangerRate
	// a second: enough for an office behind one address whose sessions have all
	// ended, and next to nothing for a database.
	strangerBurst = 100
	strangerRate  = 10
	// strangersKept is how many clients are counted each by itself; the others
	// share one count.
	strangersKept = 16384
)

var errStranger = errors.New("too many links that lead nowhere from one address")

// strangers counts, by client, the tokens that lead nowhere, so that nobody finds one that
// does by trying, and a scan does not reach the database. A token that leads
// somewhere costs nothing.
type strangers struct {
	mu      sync.Mutex
	clients map[netip.Addr]*allowance
	others  allowance
}

// allowance is what a client has left: as of at, and more since.
type allowance struct {
	left float64
	at   time.Time
}

func newStrangers() *strangers {
	return &strangers{clients: make(map[netip.Addr]*allowance), others: allowance{left: strangerBurst}}
}

// clientOf gives the address by which a client is counted: of IPv6 the /64 that one
// customer has.
func clientOf(r *http.Request) netip.Addr {
	at, _ := netip.ParseAddrPort(r.RemoteAddr)
	addr := at.Addr().Unmap().WithZone("")
	if addr.Is6() {
		if net, err := addr.Prefix(64); err == nil {
			return net.Addr()
		}
	}
	return addr
}

// admit takes one from the client's allowance, or says that nothing is left.
func (s *strangers) admit(client netip.Addr, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.ofLocked(client, now)
	if a.refill(now); a.left < 1 {
		return false
	}
	a.left--
	return true
}

// giveBack gives back what admit took: the token leads somewhere, or nobody knows.
func (s *strangers) giveBack(client netip.Addr, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.clients[client]
	if a == nil {
		a = &s.others
	}
	a.refill(now)
	if a.left = min(a.left+1, strangerBurst); a.left == strangerBurst {
		delete(s.clients, client)
	}
}

func (s *strangers) ofLocked(client netip.Addr, now time.Time) *allowance {
	if a := s.clients[client]; a != nil {
		return a
	}
	if len(s.clients) >= strangersKept {
		s.forgetLocked(now)
	}
	if len(s.clients) >= strangersKept {
		return &s.others
	}
	a := &allowance{left: strangerBurst, at: now}
	s.clients[client] = a
	return a
}

// forgetLocked forgets some of those who have their whole allowance again: it looks at
// a few, in the random order of the map, so that it costs little.
func (s *strangers) forgetLocked(now time.Time) {
	looked := 0
	for client, a := range s.clients {
		if a.refill(now); a.left == strangerBurst {
			delete(s.clients, client)
		}
		if looked++; looked == 64 {
			return
		}
	}
}

func (a *allowance) refill(now time.Time) {
	a.left = min(a.left+now.Sub(a.at).Seconds()*strangerRate, strangerBurst)
	a.at = now
}
