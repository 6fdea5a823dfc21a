package proxy

import "time"

const (
	// unknownKept is how many tokens that lead nowhere are remembered, and unknownFor
	// how long. None of them can come to lead somewhere: tokens are random, and
	// a worker's NotFound is for good.
	unknownKept = 16384
	unknownFor  = time.Minute
)

// unknown remembers tokens that lead nowhere, so that asking for them again and again
// does not reach the database. It is bounded (I8): the oldest makes room.
// The lock is that of routes.
type unknown struct {
	keep  time.Duration
	until map[string]time.Time
	ring  []string // in the order in which they came; the next one goes to ring[next]
	next  int
}

func newUnknown(most int, keep time.Duration) *unknown {
	return &unknown{keep: keep, until: make(map[string]time.Time), ring: make([]string, most)}
}

func (u *unknown) has(token string, now time.Time) bool {
	until, ok := u.until[token]
	return ok && now.Before(until)
}

func (u *unknown) add(token string, now time.Time) {
	if _, there := u.until[token]; !there {
		delete(u.until, u.ring[u.next])
		u.ring[u.next] = token
		u.next = (u.next + 1) % len(u.ring)
	}
	u.until[token] = now.Add(u.keep)
}
