package drone

import (
	"encoding/json"
	"fmt"

	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/messages"
)

// noRoomLocked says which limit of the drone leaves no room for another backend, or "".
func (a *agent) noRoomLocked(d runtime.Demands) string {
	limit := a.cfg.Capacity
	switch {
	case limit.MaxBackends > 0 && len(a.backends) >= limit.MaxBackends:
		return fmt.Sprintf("the drone is full: it takes %d backends at most (--max-backends)", limit.MaxBackends)
	case limit.MaxMemoryBytes > 0 && d.MemoryBytes > limit.MaxMemoryBytes-a.promised.MemoryBytes:
		return fmt.Sprintf("the drone is full: %d bytes of memory are asked for, of its %d (--max-memory) %d are promised",
			d.MemoryBytes, limit.MaxMemoryBytes, a.promised.MemoryBytes)
	case limit.MaxCPUMillis > 0 && d.CPUMillis > limit.MaxCPUMillis-a.promised.CPUMillis:
		return fmt.Sprintf("the drone is full: %s processors are asked for, of its %s (--max-cpus) %s are promised",
			cpus(d.CPUMillis), cpus(limit.MaxCPUMillis), cpus(a.promised.CPUMillis))
	}
	return ""
}

// cpus reads like 0.25 or 2.
func cpus(millis int64) string { return fmt.Sprintf("%g", float64(millis)/1000) }

// maxDemand bounds what one backend can promise itself, far above what there is, so
// that sums do not overflow.
const maxDemand = 1 << 50

// demandsOf is what an executable demands of the machine.
func (a *agent) demandsOf(executable json.RawMessage) runtime.Demands {
	d := a.rt.Demands(executable)
	return runtime.Demands{MemoryBytes: min(max(d.MemoryBytes, 0), maxDemand), CPUMillis: min(max(d.CPUMillis, 0), maxDemand)}
}

// promiseLocked counts what a backend demands, releaseLocked gives it back.
func (a *agent) promiseLocked(d runtime.Demands) {
	a.promised.MemoryBytes += d.MemoryBytes
	a.promised.CPUMillis += d.CPUMillis
	a.fullnessLocked()
}

func (a *agent) releaseLocked(d runtime.Demands) {
	a.promised.MemoryBytes -= d.MemoryBytes
	a.promised.CPUMillis -= d.CPUMillis
	a.fullnessLocked()
}

// fullnessLocked has the workers told at once when the drone becomes full, or is not
// any more, and soon when their number of backends is far from true: what they place goes
// by its last heartbeat.
func (a *agent) fullnessLocked() {
	full := a.noRoomLocked(runtime.Demands{MemoryBytes: 1, CPUMillis: 1}) != ""
	if full != a.full {
		a.full = full
		nudge(a.kick)
	}
	step := maxStep
	if most := a.cfg.Capacity.MaxBackends; most > 0 {
		step = min(step, most/10+1)
	}
	if n := len(a.backends); n >= a.stated+step || n <= a.stated-step {
		nudge(a.changed)
	}
}

func (a *agent) loadLocked() messages.Load {
	return messages.Load{
		Backends: len(a.backends), MemoryBytes: min(a.promised.MemoryBytes, maxDemand), CPUMillis: min(a.promised.CPUMillis, maxDemand),
	}
}
