package store

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/jetway-project/jetway/internal/lifecycle"
	"github.com/jetway-project/jetway/internal/mutant"
	"github.com/jetway-project/jetway/internal/outbox"
	"github.com/jetway-project/jetway/messages"
)

var (
	lockSessionsSQL = statement("lock_sessions")
	lockKeysSQL     = statement("lock_keys")
	lockBackendsSQL = statement("lock_backends")
	unpublishedSQL  = statement("unpublished")
	forgetKeptSQL   = statement("forget_kept")
)

// Change is an event for one backend. The Chance of a Refused or Forgotten is found out
// here. A Lost has an effect only where the backend's lease has expired, as it stands in the
// rows once they are locked.
type Change struct {
	BackendID string
	Event     lifecycle.Event
	// Of, if not nil: there is nothing to do unless this session has the backend.
	Of *Holder
	// IdleSince, if not zero: there is nothing to do if somebody has joined since, by the
	// database's clock.
	IdleSince time.Time
	// Forget has the key be forgotten if this is its last holder: it is not dormant afterwards.
	Forget bool
	// Traceparent is the trace context that what comes of it continues; "": that of the context.
	Traceparent string
}

// Holder is one session of a drone. It limits changes to its backends.
type Holder struct{ Drone, Session string }

// mayReport: a session's own backends, and any of the drone that has ended, for
// then nothing changes but that its actions are shown to be taken: a drone that
// came back says so of what was given up in an earlier session (I3).
func (h *Holder) mayReport(l *locked) bool {
	if mutant.On(mutant.ForeignReport) {
		return true
	}
	return l.of.Drone == h.Drone && (l.of.Session == h.Session || l.Status == messages.Terminated)
}

// Transition applies events to backends by the rules of lifecycle: all of them,
// or none where a backend does not exist or is not the holder's; those are the
// foreign ones. What the rules go by is locked first: sessions, keys, backends, in this
// order. The rows to publish begin with states of these backends that another may have left
// unpublished (I5).
func (s *Store) Transition(ctx context.Context, holder *Holder, changes []Change) (rows []outbox.Row, foreign []string, err error) {
	if len(changes) == 0 {
		return nil, nil, nil
	}
	err = again(ctx, func() error {
		t := &transition{
			store: s, holder: holder, changes: changes, trusted: s.clock.trusted(),
			sessions: make(map[Holder]standing), keys: make(map[string]standing), backends: make(map[string]*locked),
			chances: make(map[string]*chance), trace: traceOf(ctx),
		}
		if err := s.transact(ctx, t.read, t.write); err != nil {
			return err
		}
		rows, foreign = t.rows(), t.foreign
		return nil
	})
	if err != nil {
		return nil, nil, wrap("change backends", err)
	}
	return rows, foreign, nil
}

// transition is one try of Transition.
type transition struct {
	store   *Store
	holder  *Holder
	changes []Change
	trusted time.Time
	trace   string // what the rows continue

	sessions map[Holder]standing
	keys     map[string]standing // by the backend that holds it
	backends map[string]*locked
	chances  map[string]*chance
	pending  []outbox.Row // unpublished before
	canSleep []string     // those that are to sleep whose drones can

	foreign []string
	// written are the new rows, until which status each stays on record; kept are
	// what is left of spawns, and placed those of other drones.
	written      []outbox.Row
	until        []int16
	kept, placed []outbox.Row
}

// standing is that of a session's lease, or of a sealed key.
type standing struct {
	sealed, over bool

	// Of a key: how often in a row its lives have failed.
	failures int
	// And for how many seconds it is dormant once it is released.
	resume int64

	// Of a session, for people: when it was heard, whether it began in this home of the database, and whether its
	// drone has another one now.
	heard          time.Time
	here, replaced bool
}

// locked is a backend under its lock, and what becomes of it.
type locked struct {
	id, cluster, pool string
	of                Holder
	lifecycle.Backend
	before  lifecycle.Backend
	joined  time.Time // when somebody was last connected, or joined
	fencing int64
	chance  *chance // of being placed again, if that was asked
	placed  bool
	release bool
	// inStatus is for how long it has been in the status of before. crashed says that the life that is over was a failure.
	inStatus time.Duration
	crashed  bool
	// taken and napTaken are up to where its actions are shown to be taken; givenUp says that nobody
	// may take its spawn any more.
	taken    messages.Status
	napTaken int64
	givenUp  bool
}

func (t *transition) read(b *pgx.Batch) {
	ids := make([]string, len(t.changes))
	var lost, release, refused bool
	var untaken, tired, forgotten []string
	for i, c := range t.changes {
		ids[i] = c.BackendID
		switch e := c.Event.(type) {
		case lifecycle.Lost:
			lost, release = true, true
		case lifecycle.Refused:
			release, refused, untaken = true, true, append(untaken, c.BackendID)
		case lifecycle.Forgotten:
			release, untaken = true, append(untaken, c.BackendID)
		case lifecycle.Reported:
			release = release || e.State.Status == messages.Terminated
		case lifecycle.SleepAsked:
			tired = append(tired, c.BackendID)
		}
		if c.Forget {
			forgotten = append(forgotten, c.BackendID)
		}
	}
	if refused && t.holder != nil {
		b.Queue(refusedSQL, t.holder.Drone, t.holder.Session, ids)
	}
	if lost {
		b.Queue(lockSessionsSQL, ids, t.trusted).Query(func(rows pgx.Rows) error {
			var h Holder
			var s standing
			_, err := pgx.ForEachRow(rows, []any{&h.Drone, &h.Session, &s.sealed, &s.over, &s.heard, &s.here, &s.replaced}, func() error {
				t.sessions[h] = s
				return nil
			})
			return err
		})
	}
	if len(forgotten) > 0 {
		b.Queue(forgetKeptSQL, forgotten)
	}
	if release {
		b.Queue(lockKeysSQL, ids, t.trusted).Query(func(rows pgx.Rows) error {
			var id string
			var s standing
			_, err := pgx.ForEachRow(rows, []any{&id, &s.sealed, &s.over, &s.failures, &s.resume}, func() error {
				t.keys[id] = s
				return nil
			})
			return err
		})
	}
	b.Queue(lockBackendsSQL, ids).Query(t.scanBackends)
	if len(tired) > 0 {
		b.Queue(canSleepSQL, tired).Query(collectInto(&t.canSleep, pgx.RowTo[string]))
	}
	b.Queue(unpublishedSQL, ids).Query(collectInto(&t.pending, scanOutbox))
	if len(untaken) > 0 {
		b.Queue(chanceSQL, untaken).Query(t.scanChances)
	}
}

func (t *transition) scanBackends(rows pgx.Rows) error {
	for rows.Next() {
		l := new(locked)
		var ms int64
		err := rows.Scan(&l.id, &l.cluster, &l.pool, &l.of.Drone, &l.of.Session, (*int16)(&l.Asked), (*int16)(&l.Status), &l.Address,
			(*int16)(&l.LastStatus), &l.Kind, &l.Reason, &l.Message, &l.ExitCode, &l.Cause, &l.By, &l.Words, &l.joined, &l.fencing, &ms,
			&l.Nap, &l.ReclaimedBytes)
		if err != nil {
			return err
		}
		l.before, l.inStatus = l.Backend, time.Duration(ms)*time.Millisecond
		t.backends[l.id] = l
	}
	return rows.Err()
}

// findForeign looks under the locks: a backend may just have been adopted by another session (I1).
func (t *transition) findForeign() bool {
	for _, c := range t.changes {
		if l := t.backends[c.BackendID]; l == nil || t.holder != nil && !t.holder.mayReport(l) {
			t.foreign = append(t.foreign, c.BackendID)
		}
	}
	return len(t.foreign) > 0
}

// expired says whether a backend's lease has ended: that of its session, or its own if it is
// sealed; or the key is another's. What was adopted by another session meanwhile has not.
func (t *transition) expired(l *locked) bool {
	key, holds := t.keys[l.id]
	return !holds || key.over || t.sessions[l.of].over
}

// whyLost says which lease an expired backend has lost, and why.
func (t *transition) whyLost(l *locked) messages.Why {
	key, holds := t.keys[l.id]
	of, heard := t.sessions[l.of], "never"
	if !of.heard.IsZero() {
		heard = of.heard.UTC().Format(time.RFC3339)
	}
	switch {
	case !holds:
		return messages.Why{Cause: messages.CauseKeyTaken, Words: "another backend has its key"}
	case key.over:
		return messages.Why{Cause: messages.CauseStuck, By: l.By, Words: cut(
			"it was to end, and its drone " + l.of.Drone + " has not said in time that it had; so its lease was renewed no more, and has run out. It was to end because: " + cmp.Or(l.Words, "it did not get ready"))}
	case !of.here:
		return messages.Why{Cause: messages.CauseRestored, Words: "the database was restored or failed over, and its drone " + l.of.Drone +
			" has not said since that it runs it: it was last heard at " + heard + " before that"}
	case of.replaced:
		return messages.Why{Cause: messages.CauseDroneReplaced, Words: "another machine, or this one after it was started anew, has the name of its drone " + l.of.Drone +
			"; the session that ran it was last heard at " + heard + ", and its lease has run out"}
	}
	return messages.Why{Cause: messages.CauseDroneSilent, Words: "its drone " + l.of.Drone + " was last heard at " + heard + ", and its lease has run out"}
}

// cut shortens words to what a message carries.
func cut(words string) string {
	return strings.ToValidUTF8(words[:min(len(words), messages.MaxWhy)], "")
}

// decide runs the rules. Several events of one backend (a drone reports in
// batches) become a row for each state, so that none is left out (I5).
func (t *transition) decide() {
	for _, c := range t.changes {
		l := t.backends[c.BackendID]
		if c.Of != nil && *c.Of != l.of || l.placed {
			continue // what its earlier drone has to say more of it, such as the same again
		}
		if !c.IdleSince.IsZero() && !l.joined.Before(c.IdleSince) {
			continue
		}
		event := l.withChance(c.Event)
		if _, lost := event.(lifecycle.Lost); lost {
			if !t.expired(l) {
				continue // a renewal saved it
			}
			event = lifecycle.Lost{Why: t.whyLost(l)}
		}
		if _, sleep := event.(lifecycle.SleepAsked); sleep && !slices.Contains(t.canSleep, l.id) {
			continue
		}
		untaken := l.Status == messages.Scheduled
		next, actions := lifecycle.Step(l.Backend, event)
		if actions == (lifecycle.Actions{}) {
			continue
		}
		l.Backend, l.release = next, l.release || actions.Release
		if _, refused := event.(lifecycle.Refused); actions.Release && !refused {
			l.crashed = l.Crashed(l.readyFor())
		}
		switch e := event.(type) {
		case lifecycle.Reported:
			// Not next's: of a backend that was given up, the drone has yet to say that it ended.
			l.taken, l.napTaken = max(l.taken, e.State.Status), max(l.napTaken, e.Nap.Nap)
			// It may have been told to end before the spawn was published, and with it the state
			// that that stands for: by a worker that died, or could not (I5).
			l.givenUp = l.givenUp || untaken && e.State.Status.Leaving()
		case lifecycle.Refused:
			if l.placed = actions.Place; !l.placed {
				l.taken = max(l.taken, e.State.Status)
			}
		case lifecycle.Lost, lifecycle.Forgotten:
			if l.placed = actions.Place; l.placed {
				break
			}
			// Nobody may run it any more. What asked for its end before is outdone by
			// the hard termination that comes with this.
			l.taken, l.givenUp = messages.HardTerminating, l.givenUp || untaken
			if t.sessions[l.of].over {
				// Its drone has to register again, and learns from the reply what it must end.
				l.taken, actions.Terminate = messages.Terminated, nil
			}
		}
		t.note(l, actions, cmp.Or(c.Traceparent, t.trace))
	}
}

// readyFor is for how many seconds it has been ready, as far as that was told.
func (l *locked) readyFor() float64 {
	if l.before.Status != messages.Ready {
		return 0
	}
	return l.inStatus.Seconds()
}

// dormantFor is for how many seconds the key of a backend is dormant from now on; 0: it is not.
func (t *transition) dormantFor(l *locked) int64 {
	if !l.release || l.Status != messages.Terminated {
		return 0
	}
	return t.keys[l.id].resume
}

// note makes the rows that a step causes.
func (t *transition) note(l *locked, actions lifecycle.Actions, trace string) {
	if actions.Publish {
		t.written = append(t.written, outbox.Row{
			Kind: outbox.KindState, BackendID: l.id, Drone: l.of.Drone, Status: l.Status, LastStatus: l.LastStatus,
			Body: messages.Encode(outbox.StateBody{State: l.State, DormantSeconds: t.dormantFor(l)}), FencingToken: l.fencing, Traceparent: trace,
		})
		t.until = append(t.until, 0)
	}
	if actions.Nap {
		t.written = append(t.written, outbox.Row{Kind: outbox.KindNap, BackendID: l.id, Drone: l.of.Drone, Nap: l.Nap, Traceparent: trace})
		t.until = append(t.until, int16(messages.Terminating))
	}
	if actions.Terminate != nil {
		// It is shown to be taken by the status that it leads to; of a backend that was
		// given up, by its drone's word that it has ended.
		until := messages.Terminating
		switch {
		case l.Status == messages.Terminated:
			until = messages.Terminated
		case actions.Terminate.Hard:
			until = messages.HardTerminating
		}
		t.written = append(t.written, outbox.Row{
			Kind: outbox.KindTerminate, BackendID: l.id, Drone: l.of.Drone, Body: messages.Encode(actions.Terminate), Traceparent: trace,
		})
		t.until = append(t.until, int16(until))
	}
}

// rows are those to publish, in order.
func (t *transition) rows() (rows []outbox.Row) {
	rows = append(rows, t.pending...)
	rows = append(rows, t.kept...) // each the first of its backend
	rows = append(rows, t.written...)
	return append(rows, t.placed...)
}
