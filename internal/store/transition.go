package store

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/jetway-project/jetway/internal/lifecycle"
	"github.com/jetway-project/jetway/internal/mutant"
	"github.com/jetway-project/jetway/internal/outbox"
	"github.com/jetway-project/jetway/internal/placement"
	"github.com/jetway-project/jetway/messages"
)

// Change is an event for one backend. The Chance of a Refused or Forgotten is found out
// here.
type Change struct {
	BackendID string
	Event     lifecycle.Event
	// Of, if not nil: there is nothing to do unless this session has the backend.
	Of *Holder
}

// Holder limits changes to the backends of one session of a drone.
type Holder struct{ Drone, Session string }

const loadSQL = `
select b.id, b.cluster, b.pool, b.drone, b.session, b.revision, b.asked, b.status, b.address, b.last_status,
       b.termination_kind, b.termination_reason, b.message, b.exit_code
from backend b
where b.id = any($1::text[])`

// States that were committed but perhaps not published by whoever committed them.
const unpublishedSQL = `
select ` + outboxColumns + `
from outbox o
where o.backend_id = any($1::text[]) and o.until_status is null
order by o.id`

// Transition applies events to backends by the rules of lifecycle: all of them,
// or none where a backend does not exist or is not the holder's; those are the
// foreign ones. The rows to publish begin with states of these backends that
// another may have left unpublished. A backend that is adopted by another session
// at the same time is foreign too; the rest may then have been written, and what
// there is to publish of it stays in the outbox as well.
func (s *Store) Transition(ctx context.Context, holder *Holder, changes []Change) (rows []outbox.Row, foreign []string, err error) {
	ids := make([]string, len(changes))
	for i, c := range changes {
		ids[i] = c.BackendID
	}
	known := make(map[int64]bool)
	for len(changes) > 0 {
		loaded, pending, err := s.load(ctx, ids, untaken(changes))
		if err != nil {
			return nil, nil, err
		}
		// Looked at each time: a backend may be adopted by another session meanwhile (I1),
		// and who was at it meanwhile may not have published its state yet (I5).
		if foreign = foreignTo(holder, ids, loaded); len(foreign) > 0 {
			return rows, foreign, nil
		}
		for _, row := range pending {
			if !known[row.ID] {
				known[row.ID] = true
				rows = append(rows, row)
			}
		}
		saved, conflicted, err := s.save(ctx, refusing(holder, changes, loaded), decide(loaded, changes))
		if err != nil {
			return nil, nil, err
		}
		for _, row := range saved {
			known[row.ID] = true
		}
		rows = append(rows, saved...)
		// Another statement was at these meanwhile: look again.
		changes = keep(changes, conflicted)
		ids = conflicted
	}
	return rows, nil, nil
}

type loaded struct {
	id, cluster, pool, drone, session string
	revision                          int32
	lifecycle.Backend
	// chance is that of being placed again, for those of whom it was asked.
	chance *chance
	placed bool
}

// load reads backends, what is unpublished of them, and of those that may be untaken
// the chances.
func (s *Store) load(ctx context.Context, ids, untaken []string) (map[string]*loaded, []outbox.Row, error) {
	backends := make(map[string]*loaded, len(ids))
	var pending []outbox.Row
	// One round trip.
	b := &pgx.Batch{}
	b.Queue(loadSQL, ids).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			l := new(loaded)
			err := rows.Scan(&l.id, &l.cluster, &l.pool, &l.drone, &l.session, &l.revision, (*int16)(&l.Asked), (*int16)(&l.Status), &l.Address,
				(*int16)(&l.LastStatus), &l.Kind, &l.Reason, &l.Message, &l.ExitCode)
			if err != nil {
				return err
			}
			backends[l.id] = l
		}
		return rows.Err()
	})
	b.Queue(unpublishedSQL, ids).Query(func(rows pgx.Rows) (err error) {
		pending, err = pgx.CollectRows(rows, scanOutbox)
		return err
	})
	if len(untaken) == 0 {
		return backends, pending, wrap("read backends", s.pool.SendBatch(ctx, b).Close())
	}
	chances := make(map[string]*chance, len(untaken))
	var drones []placement.Drone
	s.queueChances(b, untaken, chances, &drones)
	if err := s.pool.SendBatch(ctx, b).Close(); err != nil {
		return nil, nil, wrap("read backends and drones", err)
	}
	pick(untaken, backends, chances, drones)
	return backends, pending, nil
}

func foreignTo(holder *Holder, ids []string, backends map[string]*loaded) (foreign []string) {
	for _, id := range ids {
		l := backends[id]
		if l == nil || (holder != nil && !holder.mayReport(l)) {
			foreign = append(foreign, id)
		}
	}
	return foreign
}

// mayReport: a session's own backends, and any of the drone that has ended, for
// then nothing changes but that its actions are shown to be taken: a drone that
// came back says so of what was given up in an earlier session (I3).
func (h *Holder) mayReport(l *loaded) bool {
	if mutant.On(mutant.ForeignReport) {
		return true
	}
	return l.drone == h.Drone && (l.session == h.Session || l.Status == messages.Terminated)
}

// step is what one backend goes through in one save: a row for each state.
type step struct {
	from    *loaded
	state   messages.State
	asked   lifecycle.Asked
	actions lifecycle.Actions
	taken   messages.Status // up to where the drone's report shows its actions taken
	givenUp bool            // nobody may take its spawn any more
}

// decide runs the rules. Several events of one backend (a drone reports in
// batches) become several saves, one after another, so that no state is left out (I5).
func decide(backends map[string]*loaded, changes []Change) (saves [][]step) {
	round := make(map[string]int)
	for _, c := range changes {
		l := backends[c.BackendID]
		if l == nil || c.Of != nil && *c.Of != (Holder{l.drone, l.session}) {
			continue
		}
		if l.placed {
			continue // what its earlier drone has to say more of it, such as the same again
		}
		event := l.withChance(c.Event)
		next, actions := lifecycle.Step(l.Backend, event)
		if actions == (lifecycle.Actions{}) {
			continue
		}
		n := round[c.BackendID]
		if n == len(saves) {
			saves = append(saves, nil)
		}
		from := *l
		st := step{from: &from, state: next.State, asked: next.Asked, actions: actions}
		l.placed = actions.Place
		switch e := event.(type) {
		case lifecycle.Reported:
			// Not next's: of a backend that was given up, the drone has yet to say that it ended.
			st.taken = e.State.Status
			// It may have been told to end before the spawn was published, and with it the state
			// that that stands for: by a worker that died, or could not (I5).
			st.givenUp = e.State.Status.Leaving()
		case lifecycle.Refused:
			if !actions.Place {
				st.taken = e.State.Status
			}
		case lifecycle.Lost, lifecycle.Forgotten:
			if actions.Place {
				break
			}
			// Nobody may run it any more. What asked for its end before is outdone by
			// the hard termination that comes with this.
			st.taken, st.givenUp = messages.HardTerminating, true
		}
		saves[n] = append(saves[n], st)
		if next.State != l.State || next.Asked != l.Asked {
			l.Backend, l.revision = next, l.revision+1
		}
		round[c.BackendID] = n + 1
	}
	return saves
}

func keep(changes []Change, ids []string) (kept []Change) {
	if len(ids) == 0 {
		return nil
	}
	wanted := make(map[string]bool, len(ids))
	for _, id := range ids {
		wanted[id] = true
	}
	for _, c := range changes {
		if wanted[c.BackendID] {
			kept = append(kept, c)
		}
	}
	return kept
}
