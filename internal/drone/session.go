package drone

import (
	"context"
	"crypto/rand"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/pause"
	"github.com/jetway-project/jetway/messages"
	"github.com/jetway-project/jetway/messages/client"
)

// session is what the agent knows of its registration; under the agent's lock. Whether a
// worker has answered one of it yet, agent.known says.
type session struct {
	id string
	// lease is that of all that the session holds.
	lease *lease
	// interval lies between two heartbeats, as the workers want it.
	interval time.Duration
	// again says that the drone must register, in this session.
	again bool
	// beats counts the answered heartbeats since the last registration.
	beats int
	// consuming says that the session's actions arrive.
	consuming bool
	// unsure has actions that may be a later session's to acknowledge.
	unsure []*nats.Msg
}

// registration is where a session finds its actions; the zero value: nowhere.
type registration struct{ session, stream, consumer string }

const (
	// defaultInterval holds until a worker has said another one.
	defaultInterval = 10 * time.Second
	// compareEvery is after how many heartbeats all that is held is compared, though nothing calls
	// for it: ten minutes at the usual interval. It finds what nobody thought of; what may have
	// lost commits calls for a comparison at once.
	compareEvery = 60
)

func newSession(interval time.Duration) session {
	return session{id: strings.ToLower(rand.Text()), lease: &lease{}, interval: interval, again: true}
}

// keepRegistered registers whenever that is due, until ctx ends. Nothing waits for it but
// what needs its answer: heartbeats go on meanwhile. A session counts only once a heartbeat of it was answered: until then the
// pauses grow, also where the workers take each registration and know nothing of it a moment later.
func (a *agent) keepRegistered(ctx context.Context) {
	tries := pause.Growing(250*time.Millisecond, 2*time.Second) // spread, so that not all drones ask at once
	for held, tried := false, false; ; {
		if !a.registrationDue() {
			select {
			case <-ctx.Done():
				return
			case <-a.enroll:
			}
			continue
		}
		switch answered := a.renewed.Swap(false); {
		case answered:
			tries.Reset()
		case tried && !pause.Sleep(ctx, min(tries.NextBackOff(), a.interval())):
			return
		}
		err := a.register(ctx)
		tried = err == nil // else it waits below, and says for how long
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			held = false
			continue
		case errors.Is(err, nats.ErrConnectionClosed):
			a.fail(err)
			return
		}
		a.noteUnanswered(err)
		wait := min(tries.NextBackOff(), a.interval())
		switch {
		case messages.KindOf(err) != messages.DroneHeld:
			a.log.WarnContext(ctx, "cannot register, trying again", "in", wait.Round(time.Millisecond), "err", err)
		case !held: // once, for it may take long
			held = true
			a.log.ErrorContext(ctx, "another machine has this drone's name: this one takes no backends until it has it", "err", err)
		}
		if !pause.Sleep(ctx, wait) {
			return
		}
	}
}

func (a *agent) registrationDue() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.session.again
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

// register begins the session, or repeats its registration.
func (a *agent) register(ctx context.Context) error {
	sleeps := a.sleeps()
	a.mu.Lock()
	a.session.again, a.statedSleeps = false, sleeps
	id := a.session.id
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
	// What runs first, which is never more than can be named: the rest has ended.
	listed := slices.AppendSeq(running, maps.Keys(speaksOf))
	listed = listed[:min(len(listed), messages.MaxNamed)]

	request, cancel := context.WithTimeout(ctx, a.patience())
	defer cancel()
	// The drone's time is read before it is sent: see heartbeat.
	resp, err := client.Request[messages.RegisterResponse](request, a.nc, messages.RegisterSubject(a.cfg.Name), messages.RegisterRequest{
		Session: id, MachineID: a.who.MachineID, BootID: a.who.BootID,
		Cluster: a.cfg.Cluster, Pool: a.cfg.Pool, Version: a.cfg.Version, Runtime: a.cfg.RuntimeName,
		Capacity: a.cfg.Capacity, Sleeps: sleeps, GraceMS: max(a.cfg.Grace.Milliseconds(), 1), DroneTimeMS: a.nowMS(), Backends: listed,
	})
	if messages.KindOf(err) == messages.NotFound {
		a.replaceSession(id)
		return err
	}
	a.mu.Lock()
	if err != nil {
		a.session.again = true
		a.mu.Unlock()
		return err
	}
	if a.session.id != id { // it was found to be over meanwhile
		a.mu.Unlock()
		return nil
	}
	begins := !a.known.Swap(true)
	a.session.beats = 0
	if resp.HeartbeatIntervalMS > 0 {
		a.session.interval = time.Duration(resp.HeartbeatIntervalMS) * time.Millisecond
	}
	killed := a.loseAllLocked(ctx, resp.Lost) // before it could be renewed
	err = a.settleLocked(resp.Renewal, running)
	a.consumeLocked(registration{session: id, stream: resp.Stream, consumer: resp.Consumer})
	a.retellNapsLocked(begins)
	a.mu.Unlock()
	nudge(a.reports.wake)
	nudge(a.kick)
	a.knowTemplates(resp.TemplatesRevision, begins)
	a.logUntold(ctx, err)
	if begins {
		a.log.InfoContext(ctx, "registered", "session", id, "backends", len(listed), "sealed", len(resp.Sealed), "lost", len(resp.Lost))
	}
	if len(killed) > 0 {
		a.log.WarnContext(ctx, "killing backends that are not this drone's any more", "backend_ids", killed)
	}
	return nil
}

// loseAllLocked kills backends whose keys are not the drone's any more. What has ended
// since the request was written is no news.
func (a *agent) loseAllLocked(ctx context.Context, lost []string) (killed []string) {
	for _, id := range lost {
		if h := a.backends[id]; h != nil {
			killed = append(killed, id)
			a.loseLocked(ctx, h)
		}
	}
	return killed
}

// needSession has the agent begin a new session, if id is still its session.
func (a *agent) needSession(id string) {
	if a.known.Load() && a.replaceSession(id) { // else its registration is under way
		a.log.Warn("the workers do not know this session any more, a new one is needed", "session", id)
	}
}

// replaceSession gives up a session. What it holds keeps the deadlines that it had, until
// the registration of the next one is answered; before that nothing is taken, reported or
// renewed.
func (a *agent) replaceSession(id string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.session.id != id {
		return false
	}
	a.session = newSession(a.session.interval)
	a.known.Store(false)
	a.consumeLocked(registration{})
	nudge(a.enroll)
	return true
}

// needRegistration has the agent register again, so that a worker makes what is missing.
func (a *agent) needRegistration() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.registerAgainLocked()
}

func (a *agent) registerAgainLocked() {
	a.session.again = true
	nudge(a.enroll)
}

// consumeLocked has the consumer take its actions from there. It does not wait: nobody
// else puts anything in.
func (a *agent) consumeLocked(from registration) {
	select {
	case <-a.registered: // nobody has taken the one before
	default:
	}
	a.registered <- from
}

// setConsuming notes whether the actions of a session arrive, and has the workers told.
func (a *agent) setConsuming(id string, consuming bool) {
	a.mu.Lock()
	if a.session.id == id {
		a.session.consuming = consuming
	}
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
