package proxy

import (
	"errors"
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
	// strangerDebt is how far a client that asks for many at once may fall below nothing.
	strangerDebt = 10 * strangerBurst
	// clientQuestions is the most that one client may have under way at once: a part of all, so that
	// nobody keeps the others from asking.
	clientQuestions = questions / 4
	// strangersKept is how many clients are counted each by itself; the others
	// share one count.
	strangersKept = 16384
)

// Why a client's token is not looked up.
var (
	errStranger = errors.New("too many links that lead nowhere from one address")
	errHurry    = errors.New("too many links at once from one address")
)

// strangers counts, by client, the tokens that lead nowhere, so that nobody finds one that
// does by trying, and a scan does not reach the database. A token that leads
// somewhere costs nothing, however many are asked for at once; what is under way is bounded by itself.
type strangers struct {
	mu      sync.Mutex
	clients map[netip.Addr]*allowance
	others  allowance
}

// allowance is what a client has left: as of at, and more since.
type allowance struct {
	left   float64 // below 0: more led nowhere than it may, for they were asked for at once
	at     time.Time
	asking int // questions under way
}

func newStrangers() *strangers {
	return &strangers{clients: make(map[netip.Addr]*allowance), others: allowance{left: strangerBurst}}
}

// enter says why the client may not ask for a token now, or nil; then leave must follow.
func (s *strangers) enter(client netip.Addr, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.ofLocked(client, now)
	a.refill(now)
	switch {
	case a.left < 1:
		return errStranger
	case a.asking >= clientQuestions:
		return errHurry
	}
	a.asking++
	return nil
}

// leave takes in what came of the question: the token leads nowhere, or else somewhere, or nobody knows.
func (s *strangers) leave(client netip.Addr, now time.Time, nowhere bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.clients[client]
	if a == nil {
		a = &s.others
	}
	a.asking = max(a.asking-1, 0)
	if a.refill(now); nowhere {
		a.left = max(a.left-1, -strangerDebt)
	}
	if a.idle() {
		delete(s.clients, client)
	}
}

// idle says that nothing need be remembered.
func (a *allowance) idle() bool { return a.left == strangerBurst && a.asking == 0 }

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
		if a.refill(now); a.idle() {
			delete(s.clients, client)
		}
		if looked++; looked == 64 {
			return
		}
	}
}

func (a *allowance) refill(now time.Time) {
	// Of those who ask at once, one may have looked at the clock before another that was here first.
	if passed := now.Sub(a.at); passed > 0 {
		a.left = min(a.left+passed.Seconds()*strangerRate, strangerBurst)
		a.at = now
	}
}
