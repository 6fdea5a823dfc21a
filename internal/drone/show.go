package drone

import (
	"context"
	"errors"
	"time"

	"github.com/jetway-project/jetway/internal/metrics"
	"github.com/jetway-project/jetway/messages"
)

// show has the metrics and probes read this agent.
func (a *agent) show() {
	a.cfg.Metrics.Show(metrics.DroneSource{
		Name: a.cfg.Name, Version: a.cfg.Version, Cluster: a.cfg.Cluster, Pool: a.cfg.Pool,
		Now: a.snapshot,
		// An agent that hangs with its lock held answers nobody, and a supervisor's watchdog hears nothing of it either.
		Alive: func() error { a.holds(); return nil },
		Ready: a.takesSpawns,
	})
}

// takesSpawns says why the drone takes no backends, as far as it is for the drone to say.
func (a *agent) takesSpawns(context.Context) error {
	if why := a.cannot(); why != "" {
		return errors.New(why)
	}
	a.mu.Lock()
	consuming, stopping := a.session.consuming, a.stopping
	a.mu.Unlock()
	switch {
	case stopping:
		return errors.New("stopping, or draining before it stops")
	case !a.nc.IsConnected():
		return errors.New("NATS cannot be reached; what runs goes on until its lease ends")
	case !a.known.Load():
		return errors.New("no worker has registered this drone yet")
	case !consuming:
		return errors.New("its actions do not arrive yet")
	}
	return nil
}

func (a *agent) snapshot() metrics.DroneSnapshot {
	most := a.cfg.Capacity
	s := metrics.DroneSnapshot{
		Backends:    make(map[string]int, len(messages.Statuses)),
		MaxBackends: float64(most.MaxBackends), MaxMemory: float64(most.MaxMemoryBytes), MaxCPUs: float64(most.MaxCPUMillis) / 1000,
		Unreported: a.reports.unanswered(),
		Connected:  a.nc.IsConnected(), Reconnects: a.nc.Stats().Reconnects,
	}
	for _, status := range messages.Statuses {
		if status != messages.Terminated && status != messages.Scheduled {
			s.Backends[status.String()] = 0
		}
	}
	now := a.nowMS()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, h := range a.backends {
		s.Backends[h.status.String()]++
		if h.rest == asleep {
			s.Asleep++
		}
	}
	s.Memory, s.CPUs = float64(a.promised.MemoryBytes), float64(a.promised.CPUMillis)/1000
	s.LeaseLeft = time.Duration(max(a.session.lease.hardAtMS-now, 0)) * time.Millisecond
	return s
}

func (a *agent) countBeat(err error) {
	if !errors.Is(err, errUnregistered) {
		a.cfg.Metrics.Beat(err == nil)
	}
	a.noteUnanswered(err)
}

// countLocked counts what a step of a backend comes to: the end of its start, and its end.
func (a *agent) countLocked(h *held, before messages.Status, report messages.State) {
	if before < messages.Ready && h.status >= messages.Ready && !h.takenAt.IsZero() {
		a.cfg.Metrics.Started(h.status == messages.Ready, time.Since(h.takenAt))
	}
	if report.Status == messages.Terminated {
		a.cfg.Metrics.Ended(string(report.Reason))
	}
}
