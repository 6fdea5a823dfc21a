package drone

import (
	"cmp"
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/jetway-project/jetway/internal/drone/journal"
	"github.com/jetway-project/jetway/internal/pause"
	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/messages"
)

// adoptions bounds how many backends are taken over at a time.
const adoptions = 16

// restored is a backend of an earlier run.
type restored struct {
	*held
	spawn *messages.Spawn
	// start ends when its start is to be given up.
	start context.Context
}

// takeOver takes over what an earlier run of the agent left, before this one registers:
// registration releases the leases of what it does not name, so nothing else may run
// by then (I1). A runtime that is away is waited for, until ctx ends. What work's end
// ends is the looking after the backends.
func (a *agent) takeOver(ctx, work context.Context, before journal.Contents) error {
	a.restoreReports(before.Reports)
	backends := a.restore(work, before)
	adopter, _ := a.rt.(runtime.Adopter)
	group, adopting := errgroup.WithContext(ctx)
	group.SetLimit(adoptions)
	for _, b := range backends {
		group.Go(func() error { return a.resume(adopting, work, adopter, b) })
	}
	err := group.Wait()
	if err == nil && adopter != nil {
		err = a.endUnknown(ctx, adopter, before)
	}
	if err != nil {
		a.stopBeginning()
		return err
	}
	if len(backends) > 0 || len(before.Reports) > 0 {
		a.log.InfoContext(work, "took over from the run before", "backends", a.holds(), "unreported", len(before.Reports))
	}
	return nil
}

// restoreReports queues what no worker has answered for (I5). What has ended is not
// spawned again (I3).
func (a *agent) restoreReports(reports []journal.Unreported) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range reports {
		a.reports.add(r.Report, r.Mark)
		if r.Status == messages.Terminated {
			a.rememberLocked(r.BackendID)
		}
	}
}

// restore looks after the backends of the run before. Where nothing of this boot tells
// the deadlines of a lease, they are past.
func (a *agent) restore(work context.Context, before journal.Contents) []restored {
	list := make([]restored, 0, len(before.Backends))
	shared := &lease{softAtMS: before.Lease.SoftAtMS, hardAtMS: before.Lease.HardAtMS}
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.nowMS()
	for id, b := range before.Backends {
		start, abort := context.WithCancel(work)
		h := &held{
			id: id, abort: abort, lines: a.output.lines(id), demands: a.demandsOf(b.Spawn.Executable),
			backend: backend{status: b.Status, reason: b.Reason, message: b.Message},
			lease:   shared,
			begun:   b.Begun, handle: b.Handle, address: b.Address, pid: b.PID, startedAt: b.Start, group: b.Group, cluster: b.Cluster, spare: b.Spare,
			sleep: sleep{nap: b.Nap, doubt: true}, // what slept is woken, and sleeps when it is asked to again
		}
		if b.Asleep {
			h.rest = unsure
		}
		if b.Own != nil {
			h.lease, h.sealed = &lease{softAtMS: b.Own.SoftAtMS, hardAtMS: b.Own.HardAtMS}, true
		}
		switch {
		case h.status == messages.Terminating:
			h.graceAtMS = now + a.graceMS
		case h.status < messages.Ready:
			h.readyByMS = now + a.cfg.StartupTimeout.Milliseconds()
		}
		a.holdLocked(h)
		if e, ok := notToBegin(h, now); ok {
			a.applyLocked(work, h, e)
			continue
		}
		list = append(list, restored{h, &b.Spawn, start})
	}
	a.dueLocked(now)
	return list
}

// notToBegin says how a backend ends of which nothing runs, and nothing is to.
func notToBegin(h *held, now int64) (e failed, over bool) {
	switch {
	case h.begun:
		return e, false
	case h.status >= messages.Terminating:
		return e, true // it was asked to end meanwhile
	case now >= h.lease.dueMS():
		return failed{reason: messages.ReasonLost, message: "the agent was restarted before it was started, and its lease ran out meanwhile"}, true
	}
	return e, false
}

// resume goes on with a backend where the run before stopped. It returns when what runs
// of it is in hand.
func (a *agent) resume(ctx, work context.Context, adopter runtime.Adopter, b restored) error {
	spec := a.specOf(work, b.held, b.spawn)
	switch {
	case !b.begun: // nothing of it runs, and its start goes on
		a.wg.Go(func() { a.runBackend(work, b.start, b.held, spec, a.starter(b.spawn)) })
		return nil
	case adopter == nil:
		a.giveUp(work, b.held, "the agent was restarted, which what this runtime runs does not outlive")
		return nil
	}
	as := spec
	as.BackendID = cmp.Or(b.spare, b.id)
	instance, err := a.adopt(ctx, adopter, as, b.handle)
	if err != nil {
		return err
	}
	if b.spare != "" && b.status < messages.Ready {
		a.wg.Go(func() { a.runBackend(work, b.start, b.held, spec, a.restart(instance)) })
		return nil
	}
	if instance.Handle() == "" || runtime.Over(instance.Done()) { // nothing is left of it, or never was
		b.abort()
		a.onEnd(work, b.held, instance)
		return nil
	}
	a.wg.Go(func() {
		a.runBackend(work, b.start, b.held, spec, func(context.Context, context.Context, *held, runtime.Spec) (runtime.Instance, error) {
			return instance, nil
		})
	})
	return nil
}

// giveUp ends a backend of which nothing runs.
func (a *agent) giveUp(work context.Context, h *held, why string) {
	h.abort()
	a.apply(work, h, failed{reason: messages.ReasonLost, message: why})
}

// adopt asks for an instance until the runtime can tell.
func (a *agent) adopt(ctx context.Context, adopter runtime.Adopter, spec runtime.Spec, handle string) (instance runtime.Instance, err error) {
	err = a.persist(ctx, "cannot take over a backend, trying again: its runtime does not answer", spec.BackendID, func() error {
		instance, err = adopter.Adopt(ctx, spec, handle)
		return err
	})
	return instance, err
}

// persist tries until it works or ctx ends.
func (a *agent) persist(ctx context.Context, complaint, id string, try func() error) error {
	tries := pause.Growing(250*time.Millisecond, 5*time.Second)
	for {
		err := try()
		if err == nil {
			return nil
		}
		wait := tries.NextBackOff()
		a.log.WarnContext(ctx, complaint, "backend_id", id, "in", wait.Round(time.Millisecond), "err", err)
		if !pause.Sleep(ctx, wait) {
			return context.Cause(ctx)
		}
	}
}

// endUnknown ends what runs of this drone and is in no journal, as after one that
// was damaged, and awaits its end.
func (a *agent) endUnknown(ctx context.Context, adopter runtime.Adopter, before journal.Contents) error {
	var found []string
	err := a.persist(ctx, "cannot look for what an earlier run left, trying again: the runtime does not answer", "", func() (err error) {
		found, err = adopter.Find(ctx)
		return err
	})
	if err != nil {
		return err
	}
	group, ending := errgroup.WithContext(ctx)
	group.SetLimit(adoptions)
	known := make(map[string]bool, len(before.Backends))
	for id, b := range before.Backends {
		known[id] = true // which may be under way by now, also where it had claimed a spare
		known[b.Spare] = true
	}
	for _, id := range found {
		if !known[id] {
			group.Go(func() error { return a.endOne(ending, adopter, id) })
		}
	}
	return group.Wait()
}

func (a *agent) endOne(ctx context.Context, adopter runtime.Adopter, id string) error {
	instance, err := a.adopt(ctx, adopter, runtime.Spec{BackendID: id}, "")
	if err != nil {
		return err
	}
	a.log.WarnContext(ctx, "ending a backend that an earlier run left and that no journal knows", "backend_id", id)
	a.kill(ctx, id, instance)
	select {
	case <-instance.Done():
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
