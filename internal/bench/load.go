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
	OfC1   float64 `json:"of_c1,omitempty"`
	OfC2   float64 `json:"of_c2,omitempty"`
	Count  int     `json:"count"`
	Failed int     `json:"failed"`
	Error  string  `json:"error,omitempty"` // the first one
}

// load calls do from `inFlight` goroutines until `duration` has passed. n numbers
// the calls. A call does `weight` operations.
func load(ctx context.Context, name string, inFlight int, duration time.Duration, weight int, do func(ctx context.Context, n int) error) Figures {
	type result struct {
		took   []time.Duration
		failed int
		err    error
	}
	results := make([]result, inFlight)
	start := time.Now()
	end := start.Add(duration)
	var wg sync.WaitGroup
	for g := range inFlight {
		wg.Go(func() {
			r := &results[g]
			for n := g; ctx.Err() == nil; n += inFlight {
				began := time.Now()
				if began.After(end) {
					return
				}
				if err := do(ctx, n); err != nil {
					r.failed++
					if r.err == nil {
						r.err = err
					}
					continue
				}
				r.took = append(r.took, time.Since(began))
			}
		})
	}
	wg.Wait()
	elapsed := time.Since(start)

	var all []time.Duration
	failed, first := 0, ""
	for _, r := range results {
		all = append(all, r.took...)
		failed += r.failed
		if first == "" && r.err != nil {
			first = r.err.Error()
		}
	}
	f := figures(name, all, elapsed, weight)
	f.Failed, f.Error = failed, first
	return f
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
