package worker

import (
	"encoding/json"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/messages"
)

// maxParked bounds the requests that wait for a backend to leave.
const maxParked = 4096

// leaving parks requests for keys whose backend is on its way out, until the bus
// says that it has ended. No request polls: one subscription serves all that wait
// for one backend.
type leaving struct {
	nc     *nats.Conn
	again  func(*request) bool // has room for maxParked
	refuse func(*request, error)
	// handBack takes what is parked when the worker stops.
	handBack func(*request)
	mu       sync.Mutex
	parked   map[*request]*parking
	waited   map[string]*wait // by backend id
	stopped  bool
	wg       sync.WaitGroup // the looks-again under way
}

// lingerFor is how long a subscription that woke everybody is kept for those that
// come back because the backend has not ended after all.
const lingerFor = 5 * time.Second

// parking is one parked request.
type parking struct {
	backend string
	timer   *time.Timer // its deadline, or the end of the lease if that is sooner
}

// wait is the one subscription for a backend.
type wait struct {
	sub    *nats.Subscription
	parked map[*request]struct{}
}

func newLeaving(nc *nats.Conn, again func(*request) bool, refuse func(*request, error), handBack func(*request)) *leaving {
	return &leaving{nc: nc, again: again, refuse: refuse, handBack: handBack, parked: make(map[*request]*parking), waited: make(map[string]*wait)}
}

// park takes a request over until the backend has ended, its lease has run out,
// or the request's deadline is past.
func (l *leaving) park(req *request, held *lease.Leaving) {
	left := time.Until(req.deadline)
	if left <= 0 {
		l.refuse(req, leavingError(held.BackendID))
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped {
		l.handBack(req)
		return
	}
	if len(l.parked) == maxParked {
		l.refuse(req, messages.Errorf(messages.Overloaded, "too many requests wait for a backend to leave"))
		return
	}
	w, fresh := l.waited[held.BackendID], false
	if w == nil {
		var err error
		if w, err = l.subscribe(held.BackendID); err != nil {
			l.refuse(req, messages.Errorf(messages.Unavailable, "cannot wait for backend %s to leave: the bus is away", held.BackendID))
			return
		}
		fresh = true
	}
	w.parked[req] = struct{}{}
	p := &parking{backend: held.BackendID}
	l.parked[req] = p
	// The lease's end frees the key without an event; a moment later, for the
	// database's clock decides and not this timer. One that is past, and yet does not
	// count, is looked at now and then: the clock cannot be trusted for a while.
	ends := held.ExpiresIn + 50*time.Millisecond
	if held.ExpiresIn <= 0 {
		ends = time.Second
	}
	p.timer = time.AfterFunc(min(left, ends), func() { l.timeUp(req, held.BackendID) })
	if fresh {
		// The end may have come before the server knew of the subscription: once
		// it does, look again. Off this goroutine, which must not wait for NATS.
		l.wg.Go(func() {
			_ = l.nc.FlushTimeout(time.Second)
			l.wake(held.BackendID, false)
		})
	}
}

func leavingError(backend string) error {
	return messages.Errorf(messages.KeyHeldUnhealthy, "backend %s holds the key and is leaving; it did not leave in time", backend)
}

func (l *leaving) subscribe(backend string) (*wait, error) {
	sub, err := l.nc.Subscribe(messages.BackendEventSubject(backend), func(msg *nats.Msg) {
		var event messages.StateEvent
		if json.Unmarshal(msg.Data, &event) == nil && event.Status == messages.Terminated {
			l.wake(backend, true)
		}
	})
	if err != nil {
		return nil, err
	}
	if err := sub.SetPendingLimits(64, 256<<10); err != nil { // a backend has a handful of events
		return nil, err
	}
	w := &wait{sub: sub, parked: make(map[*request]struct{})}
	l.waited[backend] = w
	return w, nil
}

// wake lets the requests that wait for a backend try again.
func (l *leaving) wake(backend string, ended bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.waited[backend]
	if w == nil {
		return
	}
	for req := range w.parked {
		l.parked[req].timer.Stop()
		delete(l.parked, req)
		delete(w.parked, req)
		l.retry(req)
	}
	if ended {
		l.forget(backend, w)
		return
	}
	time.AfterFunc(lingerFor, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.waited[backend] == w && len(w.parked) == 0 {
			l.forget(backend, w)
		}
	})
}

// retry never waits: the runner that would make room may be waiting for us.
func (l *leaving) retry(req *request) {
	if !l.again(req) {
		l.refuse(req, messages.Errorf(messages.Overloaded, "too many requests wait for a backend to leave"))
	}
}

// wakeAll is for when events may have been missed.
func (l *leaving) wakeAll() {
	l.mu.Lock()
	backends := make([]string, 0, len(l.waited))
	for id := range l.waited {
		backends = append(backends, id)
	}
	l.mu.Unlock()
	for _, id := range backends {
		l.wake(id, false)
	}
}

func (l *leaving) timeUp(req *request, backend string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.parked[req] == nil {
		return
	}
	delete(l.parked, req)
	w := l.waited[backend]
	delete(w.parked, req)
	if len(w.parked) == 0 {
		l.forget(backend, w)
	}
	if time.Until(req.deadline) > 0 {
		l.retry(req)
		return
	}
	l.refuse(req, leavingError(backend))
}

func (l *leaving) forget(backend string, w *wait) {
	_ = w.sub.Unsubscribe()
	delete(l.waited, backend)
}

// count says how many requests are parked.
func (l *leaving) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.parked)
}

// stop hands back what is parked and takes no more.
func (l *leaving) stop() {
	defer l.wg.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = true
	for req, p := range l.parked {
		p.timer.Stop()
		l.handBack(req)
	}
	clear(l.parked)
	for id, w := range l.waited {
		l.forget(id, w)
	}
}
