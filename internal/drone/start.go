package drone

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jetway-project/jetway/internal/drone/journal"
	"github.com/jetway-project/jetway/internal/drone/spares"
	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/messages"
)

// specOf says what the runtime is to run, with the variables that tell the
// process who it is.
func (a *agent) specOf(ctx context.Context, h *held, spawn *messages.Spawn) runtime.Spec {
	env := map[string]string{
		runtime.EnvBackendID:            h.id,
		runtime.EnvDrone:                a.cfg.Name,
		runtime.EnvCluster:              h.cluster,
		"SESSION_BACKEND_KEY":           spawn.Key.Name,
		"SESSION_BACKEND_NAMESPACE":     spawn.Key.Namespace,
		"SESSION_BACKEND_FENCING_TOKEN": strconv.FormatInt(spawn.FencingToken, 10),
	}
	if spawn.StaticToken != "" {
		env["SESSION_BACKEND_STATIC_TOKEN"] = spawn.StaticToken
	}
	return runtime.Spec{
		BackendID: h.id, Namespace: spawn.Key.Namespace, Key: spawn.Key.Name,
		Executable: spawn.Executable, Env: env,
		Log:      h.lines.add,
		Progress: func(text string) { a.progressed(ctx, h, text) },
	}
}

// obtain gets the instance of a backend from the runtime: launch or adopt.
type obtain func(ctx, start context.Context, h *held, spec runtime.Spec) (runtime.Instance, error)

// runBackend runs a backend up to where only its end is waited for. start ends when
// the start is to be given up; ctx when the agent does not look after the backend any more.
func (a *agent) runBackend(ctx, start context.Context, h *held, spec runtime.Spec, get obtain) {
	defer h.abort()
	instance := a.startBackend(ctx, start, h, spec, get)
	if instance == nil {
		return
	}
	a.onEnd(ctx, h, instance)
}

// onEnd has the end of a backend seen, until ctx ends.
func (a *agent) onEnd(ctx context.Context, h *held, instance runtime.Instance) {
	ended := func() {
		h.lines.close()
		a.mu.Lock()
		defer a.mu.Unlock()
		if ctx.Err() == nil { // else it is the next run's
			a.applyLocked(ctx, h, exited{exit: instance.Exit(), lastWords: h.lines.lastWords()})
		}
	}
	if teller, ok := instance.(runtime.Teller); ok {
		teller.OnDone(ended)
		return
	}
	// A goroutine of its own: the stack that starting took is not kept for as
	// long as the backend runs.
	a.wg.Go(func() {
		select {
		case <-instance.Done():
			ended()
		case <-ctx.Done():
		}
	})
}

var (
	// errEnded ends the span of a start that was given up.
	errEnded = errors.New("the backend ended before it was ready")
	// errLeft says that the next run of the agent goes on with a start.
	errLeft = errors.New("the agent is leaving")
)

// startBackend gives the instance, ready or ending, or nil when there is none. Its
// span ends with it: where the trace of a request that spawned ends too.
func (a *agent) startBackend(ctx, start context.Context, h *held, spec runtime.Spec, get obtain) runtime.Instance {
	defer a.spares.Yield()()
	instance, err := get(ctx, start, h, spec)
	if err != nil {
		a.failed(ctx, h, err)
		h.span.End(err)
		return nil
	}
	address, pid := instance.Address(), instance.PID()
	startedAt := startOf(pid)
	a.mu.Lock()
	h.instance, h.address, h.handle, h.pid, h.startedAt = instance, address, instance.Handle(), pid, startedAt
	before := h.status
	// A spare has answered already, and has taken the claim.
	a.applyLocked(ctx, h, started{address: address, ready: h.spare != ""})
	if h.status == before { // for the guard
		a.noteLocked(h, journal.Change{BackendID: h.id, State: h.record()}, messages.State{})
	}
	isReady := h.status >= messages.Ready
	if h.rest != awake { // an earlier run of the agent left it so
		a.turnLocked(ctx, h)
	}
	a.mu.Unlock()
	waiting := h.span.Child("ready", time.Now())
	switch {
	case address == "", isReady: // nothing to probe
	case a.probe(start, h, instance):
		a.apply(ctx, h, answered{})
	default:
		err = errEnded
	}
	waiting.End(err)
	h.span.End(err)
	return instance
}

// failed says that a backend could not be started, and nothing of it runs; nothing if
// the agent is leaving, for then it has not failed.
func (a *agent) failed(ctx context.Context, h *held, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.leaving && !errors.Is(err, errLeft) {
		a.applyLocked(ctx, h, failed{message: failureText(err)})
	}
}

// failureText is what is reported of a start that failed: nothing of one that was
// given up, for why is known.
func failureText(err error) string {
	if errors.Is(err, errEnded) {
		return ""
	}
	return err.Error()
}

// launch prepares and starts what is to run.
func (a *agent) launch(ctx, start context.Context, h *held, spec runtime.Spec) (runtime.Instance, error) {
	preparing := h.span.Child("prepare", time.Now())
	err := a.rt.Prepare(start, spec)
	preparing.End(err)
	if err != nil {
		return nil, err
	}
	starting := h.span.Child("start", time.Now())
	instance, err := a.begin(ctx, start, h, spec)
	starting.End(err)
	return instance, err
}

// enter journals that from here on something of a backend may run: under its own id, or as the spare that it claims. After
// nil, which comes with a function to call once that has been tried, there is a guard that ends it with its lease (I1).
func (a *agent) enter(ctx, start context.Context, h *held, spare *spares.Spare) (tried func(), err error) {
	var running runtime.Instance
	var startedAt uint64
	if spare != nil {
		running = spare.Instance()
		startedAt = startOf(running.PID())
	}
	a.mu.Lock()
	if a.leaving {
		a.mu.Unlock()
		return nil, errLeft
	}
	before := h.status
	h.begun, h.spare, h.group = true, "", a.groupOf(h.id)
	h.handle, h.address, h.pid, h.startedAt = "", "", 0, 0
	if spare == nil {
		a.applyLocked(ctx, h, prepared{})
	} else {
		h.spare, h.group = spare.ID, a.groupOf(spare.ID)
		h.handle, h.address, h.pid, h.startedAt = running.Handle(), running.Address(), running.PID(), startedAt
	}
	if h.status == before {
		a.noteLocked(h, journal.Change{BackendID: h.id, State: h.record()}, messages.State{})
	}
	err = a.memory.journal.Failing()
	a.launching.Add(1)
	a.mu.Unlock()
	if err != nil { // it must not run without the next run knowing
		err = fmt.Errorf("the drone's journal cannot be written: %w", err)
	} else if err = a.memory.awaitGuard(start); err != nil || start.Err() != nil { // it was ended meanwhile; nothing runs yet
		err = errEnded
	}
	if err != nil {
		a.launching.Done()
		return nil, err
	}
	return a.launching.Done, nil
}

// begin starts what is prepared.
func (a *agent) begin(ctx, start context.Context, h *held, spec runtime.Spec) (runtime.Instance, error) {
	tried, err := a.enter(ctx, start, h, nil)
	if err != nil {
		return nil, err
	}
	defer tried()
	a.spares.GiveWay(start)
	// A runtime that is not sure whether it has started something tries to end it until it is closed,
	// which is after this agent: the next run goes on with it.
	type outcome struct {
		instance runtime.Instance
		err      error
	}
	started := make(chan outcome, 1)
	go func() {
		instance, err := a.rt.Start(start, spec)
		started <- outcome{instance, err}
	}()
	select {
	case o := <-started:
		return o.instance, o.err
	case <-ctx.Done():
		return nil, errLeft
	}
}
