package proxy

import (
	"sync"

	"github.com/jetway-project/jetway/messages"
)

// newsKept is how many facts are kept: many times what can arrive while a worker
// answers one question.
const newsKept = 4096

// news is what the bus lately said of backends: which got ready, which are
// leaving, whose tokens were revoked. It settles the race between an answer and an event that cross: who
// asks takes a mark before, and sees after what was heard since.
//
// It is bounded (I8). What fell out of it is not forgotten silently: since says
// that it cannot tell.
type news struct {
	mu      sync.Mutex
	heard   uint64 // facts so far; the next one goes to ring[heard%newsKept]
	ring    [newsKept]fact
	waiting map[string]*watch
}

type fact struct {
	backend string
	status  messages.Status      // 0: none
	revoked *messages.TokenEvent // nil: none
}

// watch is one backend's waiters.
type watch struct {
	woken   chan struct{}
	waiters int
}

func newNews() *news { return &news{waiting: make(map[string]*watch)} }

// mark is a point in the news.
func (n *news) mark() uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.heard
}

// note takes in that backend reached status, and wakes who waits for it.
func (n *news) note(backend string, status messages.Status) {
	if status >= messages.Ready {
		n.add(fact{backend: backend, status: status})
	}
}

// noteRevoked takes in that tokens were revoked. Who waits for the backend may have
// one of them.
func (n *news) noteRevoked(event *messages.TokenEvent) {
	n.add(fact{backend: event.BackendID, revoked: event})
}

func (n *news) add(f fact) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ring[n.heard%newsKept] = f
	n.heard++
	if w := n.waiting[f.backend]; w != nil {
		close(w.woken)
		delete(n.waiting, f.backend)
	}
}

// gap takes in that anything may have been missed: marks taken before tell
// nothing any more, and everybody who waits looks for himself.
func (n *news) gap() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.heard += newsKept + 1
	for _, w := range n.waiting {
		close(w.woken)
	}
	clear(n.waiting)
}

// since gives what was heard of the route's backend and token since it was asked for: the
// highest status, 0 for none; whether the token was revoked; and whether nothing was missed.
func (n *news) since(r *route) (status messages.Status, revoked, complete bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	complete = n.eachLocked(r.askedMark, r.backend, func(f *fact) {
		status = max(status, f.status)
		revoked = revoked || f.revoked != nil && r.revokedBy(f.revoked)
	})
	return status, revoked, complete
}

// eachLocked calls do for what was heard of backend since mark, or says that
// some of it is missing.
func (n *news) eachLocked(mark uint64, backend string, do func(*fact)) (complete bool) {
	if n.heard-mark > newsKept {
		return false
	}
	for i := mark; i < n.heard; i++ {
		if f := &n.ring[i%newsKept]; f.backend == backend {
			do(f)
		}
	}
	return true
}

// watch gives a channel that is closed once something was heard of backend after
// mark, or may have been. Call leave when done with it.
func (n *news) watch(mark uint64, backend string) (woken <-chan struct{}, leave func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	already := false
	if complete := n.eachLocked(mark, backend, func(*fact) { already = true }); !complete || already {
		now := make(chan struct{})
		close(now)
		return now, func() {}
	}
	w := n.waiting[backend]
	if w == nil {
		w = &watch{woken: make(chan struct{})}
		n.waiting[backend] = w
	}
	w.waiters++
	return w.woken, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		if w.waiters--; w.waiters == 0 && n.waiting[backend] == w {
			delete(n.waiting, backend)
		}
	}
}
