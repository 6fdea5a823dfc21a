package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jetway-project/jetway/messages"
)

// droneTable is what a drone is tried for, in order.
var droneTable = []trial[*droneBench]{
	{Check{"register", "registers on its own subject, with session, machine_id, boot_id, cluster and drone_time_ms", "drones", nil}, (*droneBench).registers},
	{Check{"register-again", "asks again when nobody has answered its registration", "drones", []string{"register"}}, (*droneBench).registersAgain},
	{Check{"heartbeat", "heartbeats as often as the registration's reply says, in its session, and says that it is ready", "drones", []string{"register-again"}}, (*droneBench).beatsInTime},
	{Check{"drone-time", "states its own clock since boot in drone_time_ms, read before sending", "drones", []string{"heartbeat"}}, (*droneBench).tellsTime},
	{Check{"spawn", "runs what a spawn says and reports its states up to ready, with an address that answers HEAD /", "what-a-backend-gets", []string{"heartbeat"}}, (*droneBench).spawns},
	{Check{"acknowledge", "acknowledges an action that it has taken", "actions", []string{"spawn"}}, (*droneBench).acknowledges},
	{Check{"load", "says how many backends it runs in load.backends", "drones", []string{"spawn"}}, (*droneBench).tellsLoad},
	{Check{"spawn-once", "spawns a backend once, however often the action is delivered", "actions", []string{"spawn"}}, (*droneBench).spawnsOnce},
	{Check{"report-repeated", "repeats a report until it is answered, and leaves none out for that", "drones", []string{"spawn"}}, (*droneBench).repeatsReports},
	{Check{"other-session", "refuses a spawn of another session: terminated, lost", "actions", []string{"heartbeat"}}, (*droneBench).refusesOtherSession},
	{Check{"past-deadline", "refuses a spawn past soft_terminate_at_ms: terminated, lost", "actions", []string{"heartbeat"}}, (*droneBench).refusesLate},
	{Check{"terminate-first", "never starts a backend that it was told to end before its spawn came", "actions", []string{"heartbeat"}}, (*droneBench).endsBeforeSpawn},
	{Check{"malformed", "acknowledges an action that is malformed or of a type that it does not know, and goes on", "actions", []string{"heartbeat"}}, (*droneBench).survivesMalformed},
	{Check{"unknown-fields", "ignores fields of replies and actions that it does not know", "json", []string{"spawn"}}, (*droneBench).ignoresUnknown},
	{Check{"terminate-soft", "ends a backend softly when asked to, and reports terminated with kind and reason", "events", []string{"spawn"}}, (*droneBench).endsSoftly},
	{Check{"terminate-hard", "ends a backend at once when asked to hard", "events", []string{"spawn"}}, (*droneBench).endsHard},
	{Check{"ended-stays", "never starts again what has ended", "actions", []string{"terminate-hard"}}, (*droneBench).staysEnded},
	{Check{"sealed", "lets a sealed backend end by the deadlines that it had, and no other", "drones", []string{"spawn"}}, (*droneBench).endsSealed},
	{Check{"disowned", "kills a backend of which a report is refused with NotFound", "drones", []string{"spawn"}}, (*droneBench).killsDisowned},
	{Check{"new-session", "registers a new session when its own is not known, names what it runs, and lets it run", "drones", []string{"spawn"}}, (*droneBench).beginsAnew},
	{Check{"sleep", "freezes what is put to sleep and says so by nap and asleep; its status and its address stay", "sleep", []string{"spawn"}}, (*droneBench).fallsAsleep},
	{Check{"wake", "wakes it, and says so by the nap of that", "sleep", []string{"sleep"}}, (*droneBench).wakes},
	{Check{"old-nap", "applies only a greater nap than it has applied, in whatever order they come", "sleep", []string{"wake"}}, (*droneBench).ignoresOldNaps},
	{Check{"nap-repeated", "says each nap that is not 0 again in a session that it begins", "sleep", []string{"wake", "new-session"}}, (*droneBench).repeatsNaps},
	{Check{"sleep-ends", "ends what sleeps when asked to", "sleep", []string{"wake"}}, (*droneBench).endsSleeping},
	{Check{"lost", "kills at once what a registration's reply names as lost", "drones", []string{"new-session"}}, (*droneBench).killsLost},
	{Check{"hard-deadline", "has killed all by the hard deadline when no heartbeat is answered", "drones", []string{"spawn"}}, (*droneBench).killsAtDeadline},
	{Check{"back", "registers and is ready once the workers are back", "drones", []string{"spawn"}}, (*droneBench).comesBack},
	{Check{"order", "never reports a lower state after a higher one", "drones", []string{"spawn"}}, (*droneBench).keepsOrder},
	{Check{"payloads", "sends what the protocol allows, and nothing else", "json", []string{"register"}}, func(b *droneBench, _ context.Context) error { return b.faultless("payloads") }},
}

func (b *droneBench) keepsOrder(ctx context.Context) error {
	if err := b.heartbeats(ctx, 1); err != nil { // what is under way comes before
		return err
	}
	return b.faultless("order")
}

func (b *droneBench) registers(ctx context.Context) error {
	if b.until(ctx, func() bool { return len(b.registrations) > 0 }) {
		return nil
	}
	if err := b.faultless("payloads"); err != nil {
		return err
	}
	return errNot(b.wait, "a registration on %s: is the drone started, with this name and this NATS server?", messages.RegisterSubject(b.name))
}

func (b *droneBench) registersAgain(ctx context.Context) error {
	if b.until(ctx, func() bool {
		return slices.ContainsFunc(b.registrations, func(r registration) bool { return r.answered })
	}) {
		return nil
	}
	return errNot(b.wait, "a second registration, after one that got no answer")
}

func (b *droneBench) beatsInTime(ctx context.Context) error {
	if !b.until(ctx, func() bool { return slices.ContainsFunc(b.beats, func(at beat) bool { return at.Ready }) }) {
		b.mu.Lock()
		defer b.mu.Unlock()
		if n := len(b.beats); n > 0 {
			return errNot(b.wait, "a heartbeat that says ready; the last one says not_ready %q", b.beats[n-1].NotReady)
		}
		return errNot(b.wait, "a heartbeat in the session that was registered")
	}
	if err := b.heartbeats(ctx, 6); err != nil {
		return err
	}
	interval := b.cfg.Lease / 6
	if gap := b.middle(func(last, next beat) time.Duration { return next.at.Sub(last.at) }); gap > 3*interval/2 {
		return fmt.Errorf("a heartbeat comes every %s, and heartbeat_interval_ms says every %s", gap.Round(time.Millisecond), interval)
	}
	return nil
}

func (b *droneBench) tellsTime(context.Context) error {
	b.mu.Lock()
	for i := 1; i < len(b.beats); i++ {
		if last, next := b.beats[i-1].DroneTimeMS, b.beats[i].DroneTimeMS; next < last {
			b.mu.Unlock()
			return fmt.Errorf("drone_time_ms went back from %d to %d", last, next)
		}
	}
	b.mu.Unlock()
	off := b.middle(func(last, next beat) time.Duration {
		passed := time.Duration(next.DroneTimeMS-last.DroneTimeMS) * time.Millisecond
		return (passed - next.at.Sub(last.at)).Abs()
	})
	if off > b.cfg.Lease/12 {
		return fmt.Errorf("drone_time_ms and the time that passes differ by %s from one heartbeat to the next", off.Round(time.Millisecond))
	}
	return nil
}

// middle is the middle one of a measure of the last heartbeats: one that came late tells nothing.
func (b *droneBench) middle(measure func(last, next beat) time.Duration) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []time.Duration
	for i := max(1, len(b.beats)-6); i < len(b.beats); i++ {
		all = append(all, measure(b.beats[i-1], b.beats[i]))
	}
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[len(all)/2]
}

func (b *droneBench) spawns(ctx context.Context) error {
	id := b.newID("first")
	if err := b.runs(ctx, id); err != nil {
		return err
	}
	if answers, known := b.answers(ctx, id); known && !answers {
		return fmt.Errorf("%s is ready, and does not answer HEAD / at %s: is that address reached from here?", id, b.addressOf(id))
	}
	return nil
}

func (b *droneBench) acknowledges(ctx context.Context) error { return b.settled(ctx) }

func (b *droneBench) tellsLoad(ctx context.Context) error { return b.holdsOne(ctx) }

func (b *droneBench) spawnsOnce(ctx context.Context) error {
	id := b.newID("first")
	for range 2 {
		b.pass(ctx, 1) // past the time for which the stream drops copies
		if err := b.spawn(ctx, id); err != nil {
			return err
		}
	}
	if err := b.settled(ctx); err != nil {
		return err
	}
	if err := b.heartbeats(ctx, 2); err != nil {
		return err
	}
	return errors.Join(b.holdsOne(ctx), b.alive(ctx, id))
}

func (b *droneBench) repeatsReports(ctx context.Context) error {
	id := b.newID("repeat")
	b.set(func() { b.muteReports = true })
	defer b.set(func() { b.muteReports = false })
	if err := b.spawn(ctx, id); err != nil {
		return err
	}
	if !b.until(ctx, func() bool {
		for _, times := range b.of(id).repeated {
			if times > 1 {
				return true
			}
		}
		return false
	}) {
		return errNot(b.wait, "a report of %s comes again that nobody has answered", id)
	}
	b.set(func() { b.muteReports = false })
	if err := b.isReady(ctx, id); err != nil {
		return err
	}
	if err := b.terminate(ctx, id, true); err != nil {
		return err
	}
	_, err := b.ended(ctx, id)
	return err
}

func (b *droneBench) refusesOtherSession(ctx context.Context) error {
	return b.refuses(ctx, b.newID("other"), func(s *messages.Spawn) { s.Session = "another-session-" + b.run })
}

func (b *droneBench) refusesLate(ctx context.Context) error {
	return b.refuses(ctx, b.newID("late"), func(s *messages.Spawn) {
		s.Deadlines = messages.Deadlines{RenewAtMS: 1, SoftTerminateAtMS: 1, HardTerminateAtMS: 1}
	})
}

func (b *droneBench) refuses(ctx context.Context, id string, change func(*messages.Spawn)) error {
	if err := b.spawn(ctx, id, change); err != nil {
		return err
	}
	_, err := b.ended(ctx, id, messages.ReasonLost)
	return errors.Join(err, b.neverRan(id))
}

func (b *droneBench) endsBeforeSpawn(ctx context.Context) error {
	id := b.newID("early")
	if err := b.terminate(ctx, id, false); err != nil {
		return err
	}
	if err := b.settled(ctx); err != nil {
		return err
	}
	if err := b.spawn(ctx, id); err != nil {
		return err
	}
	if err := b.settled(ctx); err != nil {
		return err
	}
	_, err := b.ended(ctx, id)
	return errors.Join(err, b.neverRan(id))
}

func (b *droneBench) survivesMalformed(ctx context.Context) error {
	b.mu.Lock()
	session := b.session
	b.mu.Unlock()
	id := b.newID("bad")
	for _, action := range []string{
		`this is no JSON`, `[]`, `{}`, `{"type":"io.jetway.action.v1.spawn","id":"x","backend_id":"` + id + `"}`,
		`{"type":"io.jetway.action.v1.terminate","id":"x","backend_id":"` + id + `"}`,
		`{"type":"io.jetway.action.v1.spawn","id":"x","backend_id":"No Id","spawn":{"session":"` + session + `","fencing_token":1,"executable":{}}}`,
		`{"type":"io.jetway.action.v9.sing","id":"x","backend_id":"` + id + `","sing":{"loud":true}}`,
		`{"type":"io.jetway.action.v1.terminate","id":7,"backend_id":{"a":[]},"terminate":"now"}`,
	} {
		if err := b.publish(ctx, messages.ActionSubject(b.name), []byte(action)); err != nil {
			return err
		}
	}
	if err := b.settled(ctx); err != nil {
		return err
	}
	if err := b.heartbeats(ctx, 2); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.session != session {
		return errors.New("it began a new session: it did not survive them")
	}
	return nil
}

func (b *droneBench) ignoresUnknown(ctx context.Context) error {
	b.set(func() { b.extras = true })
	defer b.set(func() { b.extras = false })
	id := b.newID("newer")
	if err := b.runs(ctx, id); err != nil {
		return err
	}
	b.pass(ctx, 6) // by then it is dead where a reply was not read
	if err := b.alive(ctx, id); err != nil {
		return err
	}
	if err := b.terminate(ctx, id, true); err != nil {
		return err
	}
	_, err := b.ended(ctx, id)
	return err
}

func (b *droneBench) endsSoftly(ctx context.Context) error {
	return b.endsWhenAsked(ctx, b.newID("soft"), false)
}

func (b *droneBench) endsHard(ctx context.Context) error {
	return b.endsWhenAsked(ctx, b.newID("hard"), true)
}

func (b *droneBench) endsWhenAsked(ctx context.Context, id string, hard bool) error {
	if err := b.runs(ctx, id); err != nil {
		return err
	}
	if err := b.terminate(ctx, id, hard); err != nil {
		return err
	}
	state, err := b.ended(ctx, id, messages.ReasonExternal)
	switch {
	case err != nil:
		return err
	case state.Kind == "":
		return fmt.Errorf("%s ended without termination_kind, which is for those that end by themselves", id)
	case hard && state.Kind != messages.Hard:
		return fmt.Errorf("%s was to end hard, and termination_kind is %q", id, state.Kind)
	}
	if answers, known := b.answers(ctx, id); known && answers {
		return fmt.Errorf("%s is reported terminated, and still answers at its address", id)
	}
	return nil
}

func (b *droneBench) staysEnded(ctx context.Context) error {
	id := b.newID("hard")
	if err := b.spawn(ctx, id); err != nil {
		return err
	}
	if err := b.settled(ctx); err != nil {
		return err
	}
	if err := b.heartbeats(ctx, 2); err != nil {
		return err
	}
	if answers, known := b.answers(ctx, id); known && answers {
		return fmt.Errorf("%s answers again after its end", id)
	}
	return b.holdsOne(ctx)
}

func (b *droneBench) endsSealed(ctx context.Context) error {
	sealed, other := b.newID("sealed"), b.newID("beside")
	for _, id := range []string{sealed, other} {
		if err := b.runs(ctx, id); err != nil {
			return err
		}
	}
	began := time.Now()
	b.set(func() { b.sealed[sealed] = true })
	// The last renewal may have been answered just now.
	within := b.hardAfter() + b.cfg.Slack
	if err := b.dead(ctx, sealed, within); err != nil && !errors.As(err, new(unseenError)) {
		return err
	}
	if !b.within(ctx, max(within-time.Since(began), 0)+b.wait, func() bool { return b.of(sealed).status() == messages.Terminated }) {
		return fmt.Errorf("%s is sealed, its deadline is over, and it is not reported terminated", sealed)
	}
	if err := b.alive(ctx, other); err != nil {
		return err
	}
	if err := b.terminate(ctx, other, true); err != nil {
		return err
	}
	_, err := b.ended(ctx, other)
	return err
}

func (b *droneBench) killsDisowned(ctx context.Context) error {
	id := b.newID("disowned")
	b.set(func() { b.disowned[id] = true })
	if err := b.spawn(ctx, id); err != nil {
		return err
	}
	if !b.until(ctx, func() bool { return b.of(id).disowned }) {
		return errNot(b.wait, "a report of %s", id)
	}
	if err := b.dead(ctx, id, b.wait); err != nil && !errors.As(err, new(unseenError)) {
		return err
	}
	if err := b.heartbeats(ctx, 2); err != nil {
		return err
	}
	return b.holdsOne(ctx)
}

// beginsAnew forgets the session, as after a restore of the database.
func (b *droneBench) beginsAnew(ctx context.Context) error {
	b.mu.Lock()
	session, from := b.session, len(b.registrations)
	b.session = "forgotten"
	b.mu.Unlock()
	var again registration
	if !b.until(ctx, func() bool {
		for _, r := range b.registrations[from:] {
			if r.answered && r.Session != session {
				again = r
				return true
			}
		}
		return false
	}) {
		return errNot(b.wait, "a registration of a new session, after heartbeats were answered with NotFound")
	}
	id := b.newID("first")
	if !slices.Contains(again.Backends, id) {
		return fmt.Errorf("the registration does not name %s in backends, which runs", id)
	}
	if err := b.heartbeats(ctx, 2); err != nil {
		return err
	}
	return b.alive(ctx, id)
}

func (b *droneBench) killsLost(ctx context.Context) error {
	id := b.newID("lost")
	if err := b.runs(ctx, id); err != nil {
		return err
	}
	b.mu.Lock()
	b.session = "forgotten once more"
	b.lost[id] = true
	from := len(b.registrations)
	b.mu.Unlock()
	if !b.until(ctx, func() bool {
		return slices.ContainsFunc(b.registrations[from:], func(r registration) bool { return r.answered && slices.Contains(r.Backends, id) })
	}) {
		return errNot(b.wait, "a registration of a new session that names %s", id)
	}
	if err := b.dead(ctx, id, b.wait); err != nil {
		return err
	}
	return b.alive(ctx, b.newID("first"))
}

// killsAtDeadline answers nothing any more.
func (b *droneBench) killsAtDeadline(ctx context.Context) error {
	id := b.newID("first")
	if err := b.alive(ctx, id); err != nil {
		return err
	}
	if err := b.heartbeats(ctx, 1); err != nil {
		return err
	}
	b.mu.Lock()
	b.silent = true
	b.mu.Unlock()
	return b.dead(ctx, id, b.hardAfter()+b.cfg.Slack)
}

func (b *droneBench) comesBack(ctx context.Context) error {
	b.mu.Lock()
	b.silent, b.session = false, "over"
	from := len(b.beats)
	b.mu.Unlock()
	if !b.until(ctx, func() bool {
		return slices.ContainsFunc(b.beats[min(from, len(b.beats)):], func(at beat) bool { return at.renewed && at.Ready && at.Session == b.session })
	}) {
		return errNot(b.wait, "a heartbeat in a new session that says ready")
	}
	id := b.newID("again")
	if err := b.runs(ctx, id); err != nil {
		return err
	}
	if err := b.terminate(ctx, id, true); err != nil {
		return err
	}
	_, err := b.ended(ctx, id)
	return err
}
