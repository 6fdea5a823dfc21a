package proxy

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/messages"
)

// arrivalRest is the least time between two words about arrivals.
const arrivalRest = 250 * time.Millisecond

// activity knows which backends somebody is connected to, or was since it was
// last told to the workers.
type activity struct {
	mu    sync.Mutex
	here  map[string]*presence
	ended map[string]uint64 // when something last closed, by count
	count uint64
	// known are the backends of the last full report and those that arrived since;
	// fresh those of them that no report has named yet.
	known, fresh map[string]struct{}
	// arrival says that something is fresh.
	arrival chan struct{}
}

// presence is who is at one backend.
type presence struct {
	open  int      // who waits for it included
	first *passage // of a list of those under way
}

func newActivity() *activity {
	return &activity{
		here: make(map[string]*presence), ended: make(map[string]uint64),
		known: make(map[string]struct{}), fresh: make(map[string]struct{}), arrival: make(chan struct{}, 1),
	}
}

func (a *activity) opened(backend string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.openedLocked(backend)
}

func (a *activity) openedLocked(backend string) *presence {
	at := a.here[backend]
	if at == nil {
		at = new(presence)
		a.here[backend] = at
	}
	at.open++
	if _, known := a.known[backend]; known {
		return at
	}
	a.known[backend], a.fresh[backend] = struct{}{}, struct{}{}
	select {
	case a.arrival <- struct{}{}:
	default:
	}
	return at
}

func (a *activity) closed(backend string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closedLocked(backend)
}

func (a *activity) closedLocked(backend string) {
	at := a.here[backend]
	if at.open--; at.open == 0 {
		delete(a.here, backend)
	}
	a.count++
	a.ended[backend] = a.count
}

// enter is opened for a passage, which can be found from now on.
func (a *activity) enter(ps *passage) {
	a.mu.Lock()
	defer a.mu.Unlock()
	at := a.openedLocked(ps.route.backend)
	if ps.next = at.first; ps.next != nil {
		ps.next.prev = ps
	}
	at.first = ps
}

func (a *activity) leave(ps *passage) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if ps.next != nil {
		ps.next.prev = ps.prev
	}
	if ps.prev != nil {
		ps.prev.next = ps.next
	} else {
		a.here[ps.route.backend].first = ps.next
	}
	a.closedLocked(ps.route.backend)
}

// passages gives those that are under way to backend.
func (a *activity) passages(backend string) (list []*passage) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if at := a.here[backend]; at != nil {
		list = at.appendTo(nil)
	}
	return list
}

// allPassages gives all that are under way.
func (a *activity) allPassages() (list []*passage) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, at := range a.here {
		list = at.appendTo(list)
	}
	return list
}

func (at *presence) appendTo(list []*passage) []*passage {
	for ps := at.first; ps != nil; ps = ps.next {
		list = append(list, ps)
	}
	return list
}

// connected names the backends to report, in order, and a mark for told.
func (a *activity) connected() (backends []string, mark uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	names := make(map[string]struct{}, len(a.here)+len(a.ended))
	for backend := range a.here {
		names[backend] = struct{}{}
	}
	for backend := range a.ended {
		names[backend] = struct{}{}
	}
	a.known = names
	clear(a.fresh)
	return slices.Sorted(maps.Keys(names)), a.count
}

// arrived names the backends that the last full report could not name, once, and a
// mark for told.
func (a *activity) arrived() (backends []string, mark uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	backends = slices.Sorted(maps.Keys(a.fresh))
	clear(a.fresh)
	return backends, a.count
}

// told takes in that the workers know of these backends as of mark. What closed
// after the mark stays to be told.
func (a *activity) told(backends []string, mark uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, backend := range backends {
		if at, ok := a.ended[backend]; ok && at <= mark {
			delete(a.ended, backend)
		}
	}
}

// reportKeepalives tells the workers who is connected until ctx ends. Who has just come is
// told at once: a backend must not be ended as idle while the next report is awaited.
func (p *Proxy) reportKeepalives(ctx context.Context) {
	tick := time.NewTicker(p.cfg.KeepaliveInterval)
	defer tick.Stop()
	rest := time.NewTimer(0)
	defer rest.Stop()
	var arrival <-chan struct{} // nil while it rests
	for {
		select {
		case <-tick.C:
			p.tell(ctx, p.activity.connected)
		case <-arrival:
			p.tell(ctx, p.activity.arrived)
			arrival = nil
			rest.Reset(arrivalRest)
		case <-rest.C:
			arrival = p.activity.arrival
		case <-ctx.Done():
			return
		}
	}
}

// tell tells it once. What could not be told is told with the next full report.
func (p *Proxy) tell(ctx context.Context, who func() (backends []string, mark uint64)) {
	backends, mark := who()
	for some := range slices.Chunk(backends, messages.MaxRenewals) {
		ctx, cancel := context.WithTimeout(ctx, p.cfg.LookupTimeout)
		_, err := bus.RequestRaw(ctx, p.nc, messages.KeepaliveSubject(p.cfg.Name), messages.Encode(messages.KeepaliveRequest{Backends: some}))
		cancel()
		if err != nil {
			p.log.WarnContext(ctx, "cannot tell the workers who is connected, trying again later", "backends", len(backends), "err", err)
			return
		}
		p.activity.told(some, mark)
	}
}
