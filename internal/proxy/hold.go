package proxy

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/jetway-project/jetway/messages"
)

var (
	errNotReady = errors.New("the backend did not get ready in time")
	errNotYet   = errors.New("the backend is not ready yet, and a browser holds its other upgrades for this one")
	errCrowded  = errors.New("too many requests wait for their backends")
)

// Pauses between questions when a backend got ready but no worker answers.
const (
	firstPause = 200 * time.Millisecond
	longPause  = 2 * time.Second
)

// waiting counts the requests that wait for their backends. A backend and a client may have a part each of all
// that may wait: neither one that is slow to start nor one that asks for many keeps the others from waiting (I8).
type waiting struct {
	limit, ofBackend, ofClient int

	mu       sync.Mutex
	all      int
	backends map[string]int
	clients  map[netip.Addr]int
}

func newWaiting(limit int) *waiting {
	return &waiting{
		limit: limit, ofBackend: max(limit/8, 1), ofClient: max(limit/4, 1),
		backends: make(map[string]int), clients: make(map[netip.Addr]int),
	}
}

func (w *waiting) enter(backend string, client netip.Addr) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.all >= w.limit || w.backends[backend] >= w.ofBackend || w.clients[client] >= w.ofClient {
		return false
	}
	w.all++
	w.backends[backend]++
	w.clients[client]++
	return true
}

func (w *waiting) leave(backend string, client netip.Addr) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all--
	if w.backends[backend]--; w.backends[backend] == 0 {
		delete(w.backends, backend)
	}
	if w.clients[client]--; w.clients[client] == 0 {
		delete(w.clients, client)
	}
}

func (w *waiting) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.all
}

// hold waits until the backend of rt, which is not ready, gets ready, and gives
// the route then. It waits for the event and asks once it came, or may have been
// missed. The error is errNotReady past the ready timeout, errCrowded when too many
// wait; else as for find. An upgrade of HTTP/1.1 is held only briefly, errNotYet then: browsers open WebSockets to one address
// one after the other (RFC 6455, section 4.1), so it holds those to backends that are ready.
func (p *Proxy) hold(req *http.Request, r *route) (*route, error) {
	limit, late := p.cfg.ReadyTimeout, errNotReady
	if req.ProtoMajor == 1 && upgradeOf(req) != "" && p.cfg.waits.upgrade < limit {
		limit, late = p.cfg.waits.upgrade, errNotYet
	}
	ctx, cancel := context.WithTimeoutCause(req.Context(), limit, late)
	defer cancel()
	client := p.clientOf(req)
	if !p.held.enter(r.backend, client) {
		return nil, errCrowded
	}
	defer p.held.leave(r.backend, client)
	// Somebody is here, although nothing is connected to the backend yet.
	p.activity.opened(r.backend)
	defer p.activity.closed(r.backend)

	for !r.open() && !r.status.Leaving() && !r.addressless() {
		// The mark is from before r was asked for, so an event that came
		// between the answer and now counts.
		woken, leave := p.news.watch(r.askedMark, r.backend)
		select {
		case <-woken:
			leave()
		case <-ctx.Done():
			leave()
			return nil, context.Cause(ctx)
		}
		var err error
		if r, err = p.findPatiently(ctx, r.token); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// findPatiently is find that outlasts a restart of the workers or of NATS.
func (p *Proxy) findPatiently(ctx context.Context, token string) (*route, error) {
	return p.patiently(ctx, func() (*route, error) { return p.find(ctx, token) })
}

func (p *Proxy) patiently(ctx context.Context, find func() (*route, error)) (*route, error) {
	for pause := firstPause; ; pause = min(2*pause, longPause) {
		r, err := find()
		if kind := messages.KindOf(err); kind != messages.Unavailable && kind != messages.Overloaded {
			return r, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
