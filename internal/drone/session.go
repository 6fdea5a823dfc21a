package drone

import (
	"context"
	"crypto/rand"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/internal/drone/guard"
	"github.com/jetway-project/jetway/messages"
)

// session is what the agent knows of its registration; under the agent's lock.
type session struct {
	id string
	// interval lies between two heartbeats, as the workers want it.
	interval time.Duration
	// superseded says that the workers do not know the session (any more): the
	// next registration begins a new one.
	superseded bool
	// begun says that a worker has answered a registration of it.
	begun bool
	// again says that the drone must register, in the same session.
	again bool
	// consuming says that actions arrive.
	consuming bool
}

// registration is where a drone finds its actions.
type registration struct{ stream, consumer string }

// defaultInterval holds until a worker has said another one.
const defaultInterval = 10 * time.Second

func newSession() session {
	return session{id: strings.ToLower(rand.Text()), interval: defaultInterval, again: true}
}

// keepSession registers and heartbeats until ctx ends. Each of them is tried until
// a worker answers.
func (a *agent) keepSession(ctx context.Context) {
	announced := false
	timer := time.NewTimer(0)
	defer timer.Stop()
	pause := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(250*time.Millisecond), // spread, so that not all drones ask at once
		backoff.WithMaxInterval(2*time.Second), backoff.WithMaxElapsedTime(0))
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.kick:
		case <-timer.C:
		}
		ready, err := a.speak(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, nats.ErrConnectionClosed):
			a.fail(err)
			return
		case err != nil:
			wait := min(pause.NextBackOff(), a.interval())
			a.log.WarnContext(ctx, "cannot reach the workers, trying again", "in", wait.Round(time.Millisecond), "err", err)
			timer.Reset(wait)
			continue
		}
		pause.Reset()
		timer.Reset(a.interval())
		if ready && !announced {
			announced = true
			a.cfg.OnReady()
		}
	}
}

// speak says what is to be said now: a registration if one is due, else a heartbeat.
// ready says that a worker has heard that the drone takes spawns.
func (a *agent) speak(ctx context.Context) (ready bool, err error) {
	a.mu.Lock()
	due := a.session.again || a.session.superseded
	a.mu.Unlock()
	if due {
		if err := a.register(ctx); err != nil {
			return false, err
		}
	}
	return a.heartbeat(ctx)
}

func (a *agent) interval() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.session.interval
}

// patience is how long one request waits: a fresh try beats a lost reply.
func (a *agent) patience() time.Duration {
	return min(max(a.interval()/2, 250*time.Millisecond), 5*time.Second)
}

// register begins a session, or repeats the one that there is.
func (a *agent) register(ctx context.Context) error {
	a.mu.Lock()
	if a.session.superseded {
		// From here on spawns of the old session are refused.
		a.session.id, a.session.superseded, a.session.begun = newSession().id, false, false
		a.known.Store(false)
	}
	id, begun := a.session.id, a.session.begun
	// What has ended but is not known to have is still this drone's to speak of. Both are
	// looked at under the lock under which an end makes the one into the other.
	speaksOf := a.reports.pending()
	running := make([]string, 0, len(a.backends))
	for _, h := range a.backends {
		if !h.lost {
			running = append(running, h.id)
			delete(speaksOf, h.id)
		}
	}
	a.mu.Unlock()
	listed := slices.AppendSeq(running, maps.Keys(speaksOf)) // what runs first: the rest has ended
	var unlisted []string
	if len(listed) > messages.MaxNamed {
		listed, unlisted = listed[:messages.MaxNamed], listed[messages.MaxNamed:]
	}

	request, cancel := context.WithTimeout(ctx, a.patience())
	defer cancel()
	resp, err := bus.Request[messages.RegisterResponse](request, a.nc, messages.RegisterSubject(a.cfg.Name), messages.RegisterRequest{
		Session: id, Cluster: a.cfg.Cluster, Pool: a.cfg.Pool, Version: a.cfg.Version, Runtime: a.cfg.RuntimeName,
		Capacity: a.cfg.Capacity, GraceMS: max(a.cfg.Grace.Milliseconds(), 1), DroneTimeMS: a.nowMS(), Backends: listed,
	})
	if err != nil {
		return err
	}
	if !begun {
		// A message has no room for them, and what a new session does not name is given up.
		resp.Lost = append(resp.Lost, unlisted...)
	}
	a.log.InfoContext(ctx, "registered", "session", id, "backends", len(listed), "renewed", len(resp.Renewed), "lost", len(resp.Lost))
	a.mu.Lock()
	a.session.again, a.session.begun = false, true
	if resp.HeartbeatIntervalMS > 0 {
		a.session.interval = time.Duration(resp.HeartbeatIntervalMS) * time.Millisecond
	}
	a.mu.Unlock()
	a.known.Store(true)
	nudge(a.reports.wake)
	a.settle(ctx, resp.Renewal)
	select {
	case <-a.registered: // nobody has taken the one before
	default:
	}
	a.registered <- registration{stream: resp.Stream, consumer: resp.Consumer}
	return nil
}

// heartbeat says that the drone lives and renews its leases, in as few messages as
// they fit in. ready is what it said of taking spawns.
func (a *agent) heartbeat(ctx context.Context) (ready bool, err error) {
	able := a.able()
	a.mu.Lock()
	id, load := a.session.id, a.loadLocked()
	ready = a.session.consuming && !a.stopping && able
	held := make([]string, 0, len(a.backends))
	for _, h := range a.backends {
		if !h.lost {
			held = append(held, h.id)
		}
	}
	a.mu.Unlock()
	for {
		n := min(len(held), messages.MaxNamed)
		resp, err := a.renew(ctx, messages.HeartbeatRequest{Session: id, Ready: ready, Load: load, Renew: held[:n]})
		if messages.KindOf(err) == messages.NotFound {
			a.needSession(id)
			return false, nil
		}
		if err != nil {
			return false, err
		}
		a.settle(ctx, resp.Renewal)
		if held = held[n:]; len(held) == 0 {
			return ready, nil
		}
	}
}

// renew sends one heartbeat. The drone's time is read before it is sent, so that
// what the workers count from it comes too early rather than too late (I1).
func (a *agent) renew(ctx context.Context, req messages.HeartbeatRequest) (messages.HeartbeatResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, a.patience())
	defer cancel()
	req.DroneTimeMS = a.nowMS()
	return bus.Request[messages.HeartbeatResponse](ctx, a.nc, messages.HeartbeatSubject(a.cfg.Name), req)
}

// settle does what a renewal says. Its deadlines count from the time stated in the
// very request that it answers.
func (a *agent) settle(ctx context.Context, r messages.Renewal) {
	var killed []string // what has ended since the request was written is no news
	var renewed []guard.Lease
	a.mu.Lock()
	for _, id := range r.Renewed {
		if h := a.backends[id]; h != nil {
			h.renewedLocked(r.Deadlines)
			renewed = append(renewed, guard.Lease{BackendID: id, SoftAtMS: h.softAtMS, HardAtMS: h.hardAtMS})
		}
	}
	for _, id := range r.Lost {
		if h := a.backends[id]; h != nil {
			killed = append(killed, id)
			a.loseLocked(ctx, h)
		}
	}
	a.mu.Unlock()
	a.renewLeases(ctx, renewed)
	if len(killed) > 0 {
		a.log.WarnContext(ctx, "killing backends whose renewal was refused", "backend_ids", killed)
	}
}

// needSession has the agent begin a new session, if id is still its session.
func (a *agent) needSession(id string) {
	a.log.Warn("the workers do not know this session, a new one is needed", "session", id)
	a.mu.Lock()
	if a.session.id == id && a.session.begun {
		a.session.superseded = true
	}
	a.mu.Unlock()
	nudge(a.kick)
}

// needRegistration has the agent register again, so that a worker makes what is missing.
func (a *agent) needRegistration() {
	a.mu.Lock()
	a.session.again = true
	a.mu.Unlock()
	nudge(a.kick)
}

// setConsuming notes whether actions arrive, and has the workers told.
func (a *agent) setConsuming(consuming bool) {
	a.mu.Lock()
	a.session.consuming = consuming
	a.mu.Unlock()
	nudge(a.kick)
}

// fail ends the agent from inside.
func (a *agent) fail(err error) {
	select {
	case a.fatal <- err:
	default:
	}
}
