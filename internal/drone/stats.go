package drone

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/messages"
)

const (
	// measurers bounds how many instances are asked at a time.
	measurers = 8
	// measurePatience bounds how long one is waited for.
	measurePatience = 5 * time.Second
)

// sample is what was measured of a backend before.
type sample struct {
	cpu       time.Duration
	sysCPU    time.Duration
	measured  bool
	cannotSay bool // its runtime does not know
}

// measure publishes what each backend uses, once per interval and spread over it, until
// ctx ends. Nothing waits for it: what cannot be told in time is left out.
func (a *agent) measure(ctx context.Context) {
	before := map[string]*sample{} // each is its own asker's, one at a time
	for {
		running := a.running()
		for id := range before {
			if _, runs := running[id]; !runs {
				delete(before, id)
			}
		}
		var asking sync.WaitGroup
		slots := make(chan struct{}, measurers)
		pace := time.NewTicker(max(a.cfg.StatsEvery/time.Duration(len(running)+1), time.Microsecond))
		for id, instance := range running {
			s := before[id]
			if s == nil {
				s = &sample{}
				before[id] = s
			}
			select {
			case <-pace.C:
			case <-ctx.Done():
			}
			if s.cannotSay || ctx.Err() != nil {
				continue
			}
			slots <- struct{}{}
			asking.Go(func() {
				defer func() { <-slots }()
				a.measureOne(ctx, id, instance, s)
			})
		}
		select {
		case <-pace.C:
		case <-ctx.Done():
		}
		pace.Stop()
		asking.Wait()
		if ctx.Err() != nil {
			return
		}
	}
}

// running are the instances that there are.
func (a *agent) running() map[string]runtime.Instance {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := make(map[string]runtime.Instance, len(a.backends))
	for id, h := range a.backends {
		if h.instance != nil && h.rest == awake { // what sleeps uses nothing, and is let be
			list[id] = h.instance
		}
	}
	return list
}

func (a *agent) measureOne(ctx context.Context, id string, instance runtime.Instance, s *sample) {
	ctx, cancel := context.WithTimeout(ctx, measurePatience)
	defer cancel()
	used, err := instance.Usage(ctx)
	if err != nil {
		s.cannotSay = errors.Is(err, errors.ErrUnsupported)
		a.log.DebugContext(ctx, "cannot measure a backend", "backend_id", id, "err", err)
		return
	}
	sysCPU := systemCPU()
	if s.measured {
		stats := messages.Stats{
			BackendID: id, Time: time.Now().UTC(),
			MemUsed: used.MemUsed, MemActive: used.MemActive, MemInactive: used.MemInactive,
			MemUnevictable: used.MemUnevictable, MemLimit: used.MemLimit,
			CPUUsed: uint64(max(used.CPU-s.cpu, 0)), SysCPU: uint64(max(sysCPU-s.sysCPU, 0)),
		}
		if err := a.nc.Publish(messages.StatsSubject(id), messages.Encode(stats)); err != nil {
			a.log.DebugContext(ctx, "cannot publish what a backend uses", "backend_id", id, "err", err)
		}
	}
	s.cpu, s.sysCPU, s.measured = used.CPU, sysCPU, true
}
