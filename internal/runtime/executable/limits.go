package executable

import (
	"fmt"

	"github.com/jetway-project/jetway/internal/runtime"
)

// Limits are what a backend may use; nil: as much as there is, and of processes and
// threads MaxPids. The fields are Plane's, but for PidsLimit.
type Limits struct {
	CPUPeriod        *int64 `json:"cpu_period,omitempty"`         // µs
	CPUPeriodPercent *int64 `json:"cpu_period_percent,omitempty"` // 100 is one processor
	CPUTimeLimit     *int64 `json:"cpu_time_limit,omitempty"`     // s
	MemoryLimitBytes *int64 `json:"memory_limit_bytes,omitempty"`
	DiskLimitBytes   *int64 `json:"disk_limit_bytes,omitempty"`
	PidsLimit        *int64 `json:"pids_limit,omitempty"`
}

// MaxPids bounds the processes and threads of a backend that asks for no less.
const MaxPids = 4096

// Bounds of limits: the kernel's for the period, Docker's for memory.
const (
	defaultPeriod        = 100_000
	minPeriod, maxPeriod = 1000, 1_000_000
	minQuota             = 1000
	maxPercent           = 100_000
	minMemory            = 6 << 20
)

// Check says which limit is none that a kernel takes.
func (l *Limits) Check() error {
	if l == nil {
		return nil
	}
	for _, limit := range []struct {
		name     string
		value    *int64
		min, max int64
	}{
		{"cpu_period", l.CPUPeriod, minPeriod, maxPeriod},
		{"cpu_period_percent", l.CPUPeriodPercent, 1, maxPercent},
		{"cpu_time_limit", l.CPUTimeLimit, 1, 1 << 31},
		{"memory_limit_bytes", l.MemoryLimitBytes, minMemory, 1 << 60},
		{"disk_limit_bytes", l.DiskLimitBytes, 1 << 20, 1 << 60},
		{"pids_limit", l.PidsLimit, 1, MaxPids},
	} {
		if v := limit.value; v != nil && (*v < limit.min || *v > limit.max) {
			return fmt.Errorf("executable: resource_limits.%s is %d; it must be %d to %d", limit.name, *v, limit.min, limit.max)
		}
	}
	if l.CPUPeriodPercent != nil && l.Quota() < minQuota {
		return fmt.Errorf("executable: resource_limits: %d%% of a cpu_period of %d µs is under the kernel's least, %d µs; raise one of them",
			*l.CPUPeriodPercent, l.Period(), minQuota)
	}
	return nil
}

// Period is in µs.
func (l *Limits) Period() int64 {
	if l == nil || l.CPUPeriod == nil {
		return defaultPeriod
	}
	return *l.CPUPeriod
}

// Quota is in µs per period; 0: no limit.
func (l *Limits) Quota() int64 { return l.Period() * l.get((*Limits).percent) / 100 }

// Memory is in bytes; 0: no limit.
func (l *Limits) Memory() int64 { return l.get(func(l *Limits) *int64 { return l.MemoryLimitBytes }) }

// CPUTime is in s; 0: no limit.
func (l *Limits) CPUTime() int64 { return l.get(func(l *Limits) *int64 { return l.CPUTimeLimit }) }

// Pids is the limit of processes and threads.
func (l *Limits) Pids() int64 {
	if n := l.get(func(l *Limits) *int64 { return l.PidsLimit }); n > 0 {
		return n
	}
	return MaxPids
}

// Demands is what a backend with the limits promises itself of the machine.
func (l *Limits) Demands() runtime.Demands {
	return runtime.Demands{MemoryBytes: l.Memory(), CPUMillis: l.get((*Limits).percent) * 10}
}

func (l *Limits) percent() *int64 { return l.CPUPeriodPercent }

func (l *Limits) get(of func(*Limits) *int64) int64 {
	if l == nil || of(l) == nil {
		return 0
	}
	return *of(l)
}
