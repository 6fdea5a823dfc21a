package proxy

import (
	"sync"

	"github.com/jetway-project/jetway/messages"
)

// newsKept is how many facts are kept: many times what can arrive while a worker
// answers one question.
const newsKept = 4096

// news is what the bus lately said of backends: which got ready, which are
// leaving. It settles the race between an answer and an event that cross: who
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
	status  messages.Status
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
	if status < messages.Ready {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ring[n.heard%newsKept] = fact{backend, status}
	n.heard++
	if w := n.waiting[backend]; w != nil {
		close(w.woken)
		delete(n.waiting, backend)
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

// since gives the highest status of backend heard since mark, 0 for none, and
// whether nothing was missed.
func (n *news) since(mark uint64, backend string) (status messages.Status, complete bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.sinceLocked(mark, backend)
}

func (n *news) sinceLocked(mark uint64, backend string) (status messages.Status, complete bool) {
	if n.heard-mark > newsKept {
		return 0, false
	}
	for i := mark; i < n.heard; i++ {
		if f := &n.ring[i%newsKept]; f.backend == backend {
			status = max(status, f.status)
		}
	}
	return status, true
}

// watch gives a channel that is closed once backend got ready or left after
// mark, or may have. Call leave when done with it.
func (n *news) watch(mark uint64, backend string) (woken <-chan struct{}, leave func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if status, complete := n.sinceLocked(mark, backend); !complete || status != 0 {
		already := make(chan struct{})
		close(already)
		return already, func() {}
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
