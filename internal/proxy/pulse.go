package proxy

import (
	"sync/atomic"
	"time"
)

// pulse says whether bytes pass between a backend and whoever is connected to it. Who passes them on says so by one look at a number that hardly
// ever changes. Every byte is told to the workers: by the next full report or, after one that has said that there was silence, at once. So what may have been put to
// sleep by such a report wakes.
type pulse struct {
	state atomic.Int32
	last  time.Time // when it last was not silent, by the reports; activity's
}

const (
	passing     int32 = iota // a byte has passed since the last report, or somebody has come
	calm                     // none has, and that report did not speak of silence
	silenceSaid              // a report has said that no byte passes
)

// beat notes that bytes have passed, and says whether that is to be told at once.
func (p *pulse) beat() bool {
	return p.state.Load() != passing && p.state.Swap(passing) == silenceSaid
}

// silent gives for how long a report is to say that no byte has passed; 0: one has since the last report. It is activity's to call.
func (p *pulse) silent(now time.Time) time.Duration {
	if p.state.CompareAndSwap(passing, calm) {
		p.last = now
		return 0
	}
	if p.state.Load() != silenceSaid && !p.state.CompareAndSwap(calm, silenceSaid) {
		return 0 // one passes at this moment
	}
	return now.Sub(p.last)
}
