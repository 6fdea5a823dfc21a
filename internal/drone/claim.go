package drone

import (
	"context"
	"fmt"
	"math"
	goruntime "runtime"
	"time"

	"github.com/jetway-project/jetway/internal/drone/spares"
	"github.com/jetway-project/jetway/internal/pause"
	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/messages"
	"github.com/jetway-project/jetway/messages/client"
)

// newSpares makes the pool of spares, which keeps none before the workers have named templates.
func (a *agent) newSpares() *spares.Pool {
	return spares.New(spares.Config{
		Runtime: a.rt, Env: map[string]string{runtime.EnvDrone: a.cfg.Name, runtime.EnvCluster: a.cfg.Cluster},
		Demands: func(t *messages.Template) runtime.Demands { return a.demandsOf(t.Executable) },
		Room:    a.roomForSpares,
		Await: func(ctx context.Context, id string, instance runtime.Instance, met func(string)) bool {
			return probe(ctx, a.groupOf(id), instance, met)
		},
		Kill: a.kill, StartupTimeout: a.cfg.StartupTimeout, AtOnce: max(goruntime.NumCPU()/2, 1),
		Changed: func() { nudge(a.changed) }, Log: a.log,
	})
}

// groupOf is the cgroup of what runs under an id, or "".
func (a *agent) groupOf(id string) string {
	if grouped, ok := a.rt.(runtime.Grouped); ok {
		return grouped.Group(id)
	}
	return ""
}

// roomForSpares is what the backends leave of the drone's capacity.
func (a *agent) roomForSpares() spares.Room {
	a.mu.Lock()
	defer a.mu.Unlock()
	left := func(limit, taken int64) int64 {
		if limit == 0 {
			return math.MaxInt64
		}
		return limit - taken
	}
	limit := a.cfg.Capacity
	return spares.Room{Instances: limit.MaxBackends - len(a.backends), Demands: runtime.Demands{
		MemoryBytes: left(limit.MaxMemoryBytes, a.promised.MemoryBytes), CPUMillis: left(limit.MaxCPUMillis, a.promised.CPUMillis),
	}}
}

// knowTemplates hears which revision the workers have of the templates: 0 if there never were any, or from one that knows none yet, for whose sake
// nothing changes before a session begins.
func (a *agent) knowTemplates(revision int64, begins bool) {
	switch {
	case revision == 0 && begins && a.templates.Swap(0) != 0:
		a.spares.Set(nil)
	case revision != 0 && a.templates.Swap(revision) != revision:
		nudge(a.askTemplates)
	}
}

// keepSpares keeps spares of the templates that the workers name, until ctx ends.
func (a *agent) keepSpares(ctx context.Context) {
	a.wg.Go(func() { a.spares.Run(ctx) })
	tries := pause.Growing(250*time.Millisecond, 5*time.Second)
	for {
		select {
		case <-a.askTemplates:
		case <-ctx.Done():
			return
		}
		for {
			err := a.fetchTemplates(ctx)
			if err == nil {
				break
			}
			wait := tries.NextBackOff()
			a.log.WarnContext(ctx, "cannot ask for the templates to keep spares of, trying again", "in", wait.Round(time.Millisecond), "err", err)
			if !pause.Sleep(ctx, wait) {
				return
			}
		}
		tries.Reset()
	}
}

// fetchTemplates has the pool keep what the workers say now.
func (a *agent) fetchTemplates(ctx context.Context) error {
	a.mu.Lock()
	session := a.session.id
	a.mu.Unlock()
	request, cancel := context.WithTimeout(ctx, a.patience())
	defer cancel()
	resp, err := client.Request[messages.TemplatesResponse](request, a.nc, messages.SubjectDroneTemplates(a.cfg.Name), messages.TemplatesRequest{Session: session})
	if err != nil {
		if messages.KindOf(err) == messages.NotFound {
			a.needSession(session)
		}
		return err
	}
	a.spares.Set(resp.Templates)
	return nil
}

// starter gives what starts the backend of a spawn: by claiming a spare of its template, or cold.
func (a *agent) starter(spawn *messages.Spawn) obtain {
	return func(ctx, start context.Context, h *held, spec runtime.Spec) (runtime.Instance, error) {
		if spawn.Template != nil {
			if spare := a.spares.Take(spawn.Template.Name, spawn.Template.Revision); spare != nil {
				switch claimed, err := a.claim(ctx, start, h, spec, spawn, spare); {
				case err != nil:
					return nil, err
				case claimed:
					return spare.Instance(), nil
				}
			}
		}
		return a.launch(ctx, start, h, spec)
	}
}

// claim makes a spare the backend. If it is not, without an error, nothing of it runs any more (I1) and the backend may be started cold.
func (a *agent) claim(ctx, start context.Context, h *held, spec runtime.Spec, spawn *messages.Spawn, spare *spares.Spare) (claimed bool, err error) {
	span := h.span.Child("claim", time.Now())
	defer func() { span.End(err) }()
	entered, err := a.enter(ctx, start, h, spare)
	if err != nil {
		spare.GiveUp(ctx)
		return false, err
	}
	defer entered()
	asked := time.Now()
	refused := spare.Claim(ctx, start, spawn.Template.ClaimPath, spares.Claim{
		BackendID: h.id, Key: spawn.Key.Name, Namespace: spawn.Key.Namespace, Tag: spawn.Key.Tag,
		FencingToken: spawn.FencingToken, StaticToken: spawn.StaticToken, Drone: a.cfg.Name,
	}, spec.Log)
	a.cfg.Metrics.Claimed(refused == nil, time.Since(asked))
	switch {
	case refused == nil:
		return true, nil
	case ctx.Err() != nil:
		return false, errLeft // the next run ends what may be left of it
	case start.Err() != nil:
		return false, errEnded
	}
	spec.Log(runtime.Line{Time: time.Now(), Stream: runtime.Notice, Text: fmt.Sprintf("a spare of the template %s could not be claimed, so the backend is started cold: %v", spawn.Template.Name, refused)})
	return false, nil
}

// restart starts a backend cold of whose spare nobody knows whether it took the claim: the agent died between asking and hearing it. First the spare is ended (I1).
func (a *agent) restart(instance runtime.Instance) obtain {
	return func(ctx, start context.Context, h *held, spec runtime.Spec) (runtime.Instance, error) {
		a.kill(ctx, h.id, instance)
		switch {
		case ctx.Err() != nil:
			return nil, errLeft
		case start.Err() != nil:
			return nil, errEnded
		}
		return a.launch(ctx, start, h, spec)
	}
}

// spareStates says how the templates fare.
func (a *agent) spareStates() []messages.SpareState {
	states := a.spares.States()
	for i := range states {
		states[i].Error = oneLine(states[i].Error, messages.MaxSpareError)
	}
	return states
}
