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

// activity knows which backends somebody is connected to, or was since it was
// last told to the workers.
type activity struct {
	mu    sync.Mutex
	open  map[string]int
	ended map[string]uint64 // when something last closed, by count
	count uint64
}

func newActivity() *activity {
	return &activity{open: make(map[string]int), ended: make(map[string]uint64)}
}

func (a *activity) opened(backend string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.open[backend]++
}

func (a *activity) closed(backend string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.open[backend]--; a.open[backend] == 0 {
		delete(a.open, backend)
	}
	a.count++
	a.ended[backend] = a.count
}

// connected names the backends to report, in order, and a mark for told.
func (a *activity) connected() (backends []string, mark uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	names := make(map[string]struct{}, len(a.open)+len(a.ended))
	for backend := range a.open {
		names[backend] = struct{}{}
	}
	for backend := range a.ended {
		names[backend] = struct{}{}
	}
	return slices.Sorted(maps.Keys(names)), a.count
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

// reportKeepalives tells the workers who is connected until ctx ends.
func (p *Proxy) reportKeepalives(ctx context.Context) {
	tick := time.NewTicker(p.cfg.KeepaliveInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			p.reportKeepalive(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// reportKeepalive tells it once. What could not be told is told the next time.
func (p *Proxy) reportKeepalive(ctx context.Context) {
	backends, mark := p.activity.connected()
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
