package bench

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Figures are what one load came to.
type Figures struct {
	Name string  `json:"name"`
	Rate float64 `json:"rate_per_second"`
	// Latencies in milliseconds.
	P50 float64 `json:"p50_ms"`
	P99 float64 `json:"p99_ms"`
	// Ratios to the ceilings of the same run; 0 where it makes no sense.
	OfC1 float64 `json:"of_c1,omitempty"`
	OfC2 float64 `json:"of_c2,omitempty"`
	// Ready is, of spawns to ready, how many of those spawned were ready when the last was; 1 keeps pace.
	Ready  float64 `json:"ready,omitempty"`
	Count  int     `json:"count"`
	Failed int     `json:"failed"`
	Error  string  `json:"error,omitempty"` // the first one
}

// load calls do from `inFlight` goroutines until `duration` has passed. n numbers
// the calls: those of one goroutine are equal modulo inFlight. A call does `weight`
// operations.
func load(ctx context.Context, name string, inFlight int, duration time.Duration, weight int, do func(ctx context.Context, n int) error) Figures {
	s := take(ctx, inFlight, duration, do)
	f := figures(name, s.took, s.elapsed, weight)
	f.Failed = s.failed
	if s.err != nil {
		f.Error = s.err.Error()
	}
	return f
}

// sample is what calls took.
type sample struct {
	took    []time.Duration
	elapsed time.Duration
	failed  int
	err     error // the first one
}

// add takes in what more calls of the same kind took.
func (s *sample) add(more sample) {
	s.took = append(s.took, more.took...)
	s.elapsed += more.elapsed
	s.failed += more.failed
	if s.err == nil {
		s.err = more.err
	}
}

// giveUp is after how many failures in a row a goroutine calls no more: what has
// broken for good would only be counted fast.
const giveUp = 1000

// take is load, before anything is reckoned. Each goroutine calls once at least, however short the
// duration is.
func take(ctx context.Context, inFlight int, duration time.Duration, do func(ctx context.Context, n int) error) (all sample) {
	results := make([]sample, inFlight)
	start := time.Now()
	end := start.Add(duration)
	var wg sync.WaitGroup
	for g := range inFlight {
		wg.Go(func() {
			r, inARow := &results[g], 0
			for n := g; ctx.Err() == nil && inARow < giveUp; n += inFlight {
				began := time.Now()
				if n != g && began.After(end) {
					return
				}
				if err := do(ctx, n); err != nil {
					inARow++
					r.failed++
					if r.err == nil {
						r.err = err
					}
					continue
				}
				inARow = 0
				r.took = append(r.took, time.Since(began))
			}
		})
	}
	wg.Wait()
	elapsed := time.Since(start)
	for _, r := range results {
		all.add(r)
	}
	all.elapsed = elapsed
	return all
}

// figures sums up how long operations took; each call did weight of them.
func figures(name string, took []time.Duration, elapsed time.Duration, weight int) Figures {
	slices.Sort(took)
	n := len(took) * weight
	return Figures{
		Name: name, Count: n, Rate: float64(n) / elapsed.Seconds(),
		P50: percentile(took, 50), P99: percentile(took, 99),
	}
}

// percentile of sorted durations, in milliseconds.
func percentile(sorted []time.Duration, p int) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, len(sorted)*p/100)].Seconds() * 1000
}
