package conformance

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/jetway-project/jetway/internal/pause"
	"github.com/jetway-project/jetway/messages"
)

// newID names a backend of one check.
func (b *droneBench) newID(what string) string { return "cf-" + b.run + "-" + what }

// spawn sends the action that spawns a backend; change alters it.
func (b *droneBench) spawn(ctx context.Context, id string, change ...func(*messages.Spawn)) error {
	b.mu.Lock()
	var stated int64
	if n := len(b.beats); n > 0 {
		stated = b.beats[n-1].DroneTimeMS
	}
	spawn := &messages.Spawn{
		Session: b.session, Key: messages.Key{Name: id, Namespace: "conformance"}, FencingToken: time.Now().UnixMilli(),
		Deadlines: b.deadlines(stated), Executable: b.cfg.Executable,
	}
	b.mu.Unlock()
	for _, c := range change {
		c(spawn)
	}
	return b.act(ctx, messages.Action{Type: messages.TypeSpawn, ID: messages.SpawnID(id), BackendID: id, Spawn: spawn})
}

func (b *droneBench) terminate(ctx context.Context, id string, hard bool) error {
	return b.act(ctx, messages.Action{
		Type: messages.TypeTerminate, ID: messages.TerminateID(id, hard), BackendID: id,
		Terminate: &messages.Terminate{Hard: hard, Reason: messages.ReasonExternal},
	})
}

func (b *droneBench) act(ctx context.Context, action messages.Action) error {
	action.Time = time.Now().UTC()
	return b.publish(ctx, messages.ActionSubject(b.name), b.encode(action))
}

// settled waits until all actions are acknowledged.
func (b *droneBench) settled(ctx context.Context) error {
	left := uint64(0)
	if b.polled(ctx, b.wait, func(ctx context.Context) bool {
		stream, err := b.js.Stream(ctx, messages.StreamActions)
		if err != nil {
			return false
		}
		info, err := stream.Info(ctx, jetstream.WithSubjectFilter(messages.ActionSubject(b.name)))
		if err != nil {
			return false
		}
		left = info.State.Subjects[messages.ActionSubject(b.name)]
		return left == 0
	}) {
		return nil
	}
	return errNot(b.wait, "the actions are acknowledged: %d are not", left)
}

// reaches waits until a backend was reported in a status or beyond, and gives that state.
func (b *droneBench) reaches(ctx context.Context, id string, status messages.Status) (state messages.State, err error) {
	var last messages.Status
	if b.until(ctx, func() bool {
		k := b.of(id)
		last = k.status()
		n := slices.IndexFunc(k.known, func(s messages.State) bool { return s.Status >= status })
		if n >= 0 {
			state = k.known[n]
		}
		return n >= 0
	}) {
		return state, nil
	}
	if last == 0 {
		return state, errNot(b.wait, "a report that %s is %s; nothing was reported of it", id, status)
	}
	return state, errNot(b.wait, "a report that %s is %s; the last one said %s", id, status, last)
}

// runs spawns a backend and waits until it is ready.
func (b *droneBench) runs(ctx context.Context, id string) error {
	if err := b.spawn(ctx, id); err != nil {
		return err
	}
	return b.isReady(ctx, id)
}

func (b *droneBench) isReady(ctx context.Context, id string) error {
	state, err := b.reaches(ctx, id, messages.Ready)
	if err == nil && state.Status != messages.Ready {
		return fmt.Errorf("%s was to run, and is %s: %s", id, state.Status, state.Message)
	}
	return err
}

// ended spawned nothing that lives: the backend is terminated, for a reason if one is wanted.
func (b *droneBench) ended(ctx context.Context, id string, reasons ...messages.TerminationReason) (messages.State, error) {
	state, err := b.reaches(ctx, id, messages.Terminated)
	if err == nil && len(reasons) > 0 && !slices.Contains(reasons, state.Reason) {
		return state, fmt.Errorf("%s ended with the termination_reason %q, and %q is what it ended for", id, state.Reason, reasons[0])
	}
	return state, err
}

// neverRan says that nothing but the end of a backend was reported.
func (b *droneBench) neverRan(id string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.of(id).known {
		if s.Status >= messages.Starting && s.Status < messages.Terminating {
			return fmt.Errorf("%s was reported %s: it was started", id, s.Status)
		}
	}
	return nil
}

func (b *droneBench) addressOf(id string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.of(id).address
}

// holdsOne waits for a heartbeat that says one backend.
func (b *droneBench) holdsOne(ctx context.Context) error {
	last := -1
	if b.until(ctx, func() bool {
		if n := len(b.beats); n > 0 {
			last = b.beats[n-1].Load.Backends
		}
		return last == 1
	}) {
		return nil
	}
	return errNot(b.wait, "a heartbeat with load.backends 1; the last one says %d", last)
}

// answers says whether somebody answers HTTP at a backend's address; known: it has one.
func (b *droneBench) answers(ctx context.Context, id string) (answers, known bool) {
	address := b.addressOf(id)
	if address == "" {
		return false, false
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, "http://"+address+"/", nil)
	if err != nil {
		return false, true
	}
	resp, err := b.visits.Do(req)
	if err != nil {
		return false, true
	}
	_ = resp.Body.Close()
	return true, true
}

// dead waits until nobody answers at a backend's address.
func (b *droneBench) dead(ctx context.Context, id string, within time.Duration) error {
	if _, known := b.answers(ctx, id); !known {
		return unseenError("it has no address, so nobody can see from here whether its process is dead")
	}
	if b.polled(ctx, within, func(ctx context.Context) bool {
		answers, _ := b.answers(ctx, id)
		return !answers && ctx.Err() == nil
	}) {
		return nil
	}
	return errNot(within, "%s is dead: it still answers at its address", id)
}

// alive says that a backend is not reported as ending, and answers where it has an address.
func (b *droneBench) alive(ctx context.Context, id string) error {
	b.mu.Lock()
	status := b.of(id).status()
	b.mu.Unlock()
	if status >= messages.Terminating {
		return fmt.Errorf("%s was to go on, and is %s", id, status)
	}
	if answers, known := b.answers(ctx, id); known && !answers {
		return fmt.Errorf("%s was to go on, and does not answer at its address", id)
	}
	return nil
}

// heartbeats waits for so many more heartbeats that are answered.
func (b *droneBench) heartbeats(ctx context.Context, more int) error {
	b.mu.Lock()
	from := len(b.beats)
	b.mu.Unlock()
	if !b.until(ctx, func() bool { return len(b.beats) >= from+more }) {
		return errNot(b.wait, "%d more heartbeats", more)
	}
	return nil
}

// pass lets some time pass, in heartbeats.
func (b *droneBench) pass(ctx context.Context, beats int) {
	pause.Sleep(ctx, time.Duration(beats)*b.cfg.Lease/6)
}

// endAll ends what the checks left running.
func (b *droneBench) endAll(ctx context.Context) error {
	b.mu.Lock()
	var left []string
	for id, k := range b.backends {
		if s := k.status(); s != 0 && s != messages.Terminated && !b.lost[id] && !b.disowned[id] {
			left = append(left, id)
		}
	}
	b.mu.Unlock()
	for _, id := range left {
		if err := b.terminate(ctx, id, true); err != nil {
			return err
		}
	}
	b.within(ctx, b.cfg.Lease, func() bool { // who does not by then has failed a check
		return !slices.ContainsFunc(left, func(id string) bool { return b.of(id).status() != messages.Terminated })
	})
	return nil
}
