package store

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/internal/lifecycle"
	"github.com/jetway-project/jetway/internal/mutant"
	"github.com/jetway-project/jetway/internal/outbox"
	"github.com/jetway-project/jetway/messages"
)

var (
	heartbeatSQL    = statement("heartbeat")
	sealedSQL       = statement("sealed")
	sessionsSQL     = statement("sessions")
	registerSQL     = statement("register")
	beginSessionSQL = statement("begin_session")
	adoptSQL        = statement("adopt")
	compareSQL      = statement("compare")
)

// oneRegistersSQL has the registrations of one drone take turns: before its first there is
// no row to lock.
const oneRegistersSQL = `select pg_advisory_xact_lock(hashtextextended('drone ' || $1, 0))`

// sealSessionsSQL keeps sessions from being renewed any more. Their keys are held until the
// leases end.
const sealSessionsSQL = `update session set sealed_at = now() where drone = $1 and id = any($2::text[])`

const templatesRevisionSQL = `select templates_revision from setting`

const droneEventSQL = `
insert into outbox (id, kind, backend_id, drone, body, traceparent)
values (nextval('outbox_id'), 'drone', $1, $1, $2, $3)
returning id, created_at`

// untakenSQL has what the drone has not taken published again, of backends that have not ended: of the others it learns
// from the comparison. What somebody has in hand is left to him, and not waited for. It goes by the backends, for
// the outbox may be long, with the bus away.
const untakenSQL = `
with untaken as materialized (
    select o.id
    from outbox o
    where o.backend_id = any(array(select b.id from backend b where b.drone = $1 and b.ended_at is null))
      and o.drone = $1 and o.until_status is not null
    order by o.id
    for update skip locked
)
update outbox o set due_at = now() where o.id = any(array(select u.id from untaken u))`

const (
	// defaultGrace is that of drones which do not state theirs (design, section 7).
	defaultGrace = 10 * time.Second
	// underWay is longer than any request may take. What has changed within it, a drone
	// may not have known when it said what it holds.
	underWay = time.Minute
)

// Registered is what a registration gives.
type Registered struct {
	// Lost are the named backends that are not the session's; Sealed those of the session that
	// are not renewed.
	Lost, Sealed []string
	// Orphans are what is to become of backends that the drone does not run any more, for Transition.
	Orphans []Change
	// Event is to be published.
	Event outbox.Row
	// TemplatesRevision is the counter of all templates.
	TemplatesRevision int64
	// Terms are those by which the lease was renewed.
	Terms lease.Terms
}

// Register begins (or, in the same session, repeats) a session of a drone: its lease is
// renewed, and what it holds is compared with what it names. Another machine than the one
// that had the name, or the same one after it was started anew, is refused with
// messages.DroneHeld while the other is heard; after that, it gets the name, and what the
// other may still run keeps its keys until the other's lease ends (I1).
func (s *Store) Register(ctx context.Context, drone string, r *messages.RegisterRequest) (done Registered, err error) {
	body := string(messages.Encode(messages.DroneEvent{
		Type: messages.TypeDroneRegistered, ID: drone + "." + r.Session, Drone: drone,
		Session: r.Session, Cluster: r.Cluster, Pool: r.Pool,
	}))
	terms := s.Terms()
	named := append([]string{}, r.Backends...) // an array, also where there are none
	err = again(ctx, func() error {
		done = Registered{Event: outbox.Row{Kind: outbox.KindDrone, BackendID: drone, Drone: drone, Body: []byte(body), Traceparent: traceOf(ctx)}, Terms: terms}
		var sessions []foundSession
		read := func(b *pgx.Batch) {
			b.Queue(oneRegistersSQL, drone)
			b.Queue(sessionsSQL, drone, terms.FreshWithin().Seconds(), s.clock.trusted()).Query(collectInto(&sessions, scanSession))
		}
		return s.transact(ctx, read, func(_ context.Context, _ *pgx.Conn, b *pgx.Batch) error {
			before, same, sealed, err := predecessors(drone, r, sessions)
			if err != nil {
				return err
			}
			b.Queue(beginSessionSQL, drone, r.Session, r.MachineID, r.BootID, r.DroneTimeMS, terms.TTL.Seconds(), r.Sleeps)
			b.Queue(sealSessionsSQL, drone, sealed)
			if len(before) > 0 { // else there is nothing to take over
				b.Queue(adoptSQL, drone, r.Session, named, before)
			}
			b.Queue(registerSQL, drone, r.Cluster, r.Pool, r.Session, r.Runtime, r.Version, r.MaxBackends,
				cmp.Or(r.GraceMS, defaultGrace.Milliseconds()), r.MaxMemoryBytes, r.MaxCPUMillis)
			b.Queue(compareSQL, drone, named, same, r.Session, underWay.Seconds()).Query(func(rows pgx.Rows) error {
				var id, session string
				var isNamed bool
				_, err := pgx.ForEachRow(rows, []any{&id, &isNamed, &session}, func() error {
					if isNamed {
						done.Lost = append(done.Lost, id)
					} else {
						done.Orphans = append(done.Orphans, Change{BackendID: id, Event: lifecycle.Forgotten{}, Of: &Holder{Drone: drone, Session: session}})
					}
					return nil
				})
				return err
			})
			b.Queue(sealedSQL, drone, r.Session).Query(collectInto(&done.Sealed, pgx.RowTo[string]))
			b.Queue(templatesRevisionSQL).QueryRow(func(row pgx.Row) error { return row.Scan(&done.TemplatesRevision) })
			b.Queue(untakenSQL, drone)
			b.Queue(droneEventSQL, drone, body, done.Event.Traceparent).QueryRow(func(row pgx.Row) error { return row.Scan(&done.Event.ID, &done.Event.At) })
			return nil
		})
	})
	return done, wrap("register a drone", err)
}

// foundSession is a session of a drone that registers.
type foundSession struct {
	id, machine, boot      string
	sealed, expired, heard bool
	here                   bool    // it began in this home of the database
	heardAgo, endsIn       float64 // seconds
}

func scanSession(row pgx.CollectableRow) (f foundSession, err error) {
	err = row.Scan(&f.id, &f.machine, &f.boot, &f.sealed, &f.expired, &f.heard, &f.here, &f.heardAgo, &f.endsIn)
	return f, err
}

// predecessors decides which of a drone's sessions a registration may take backends over
// from, before; which are the machine's own, of which it knows what still runs; and which are renewed no more. Only the same machine, not started anew since,
// can say of what ran there that it does not run any more: a clone has another boot id.
func predecessors(drone string, r *messages.RegisterRequest, sessions []foundSession) (before, own, sealed []string, err error) {
	before, own, sealed = []string{}, []string{}, []string{}
	for _, f := range sessions {
		same := f.machine == r.MachineID && f.boot == r.BootID || mutant.On(mutant.FreeForeign)
		if same && f.id != r.Session {
			own = append(own, f.id)
		}
		switch {
		case f.id == r.Session && (f.sealed || f.expired || !same || !f.here):
			return nil, nil, nil, messages.Errorf(messages.NotFound, "session %s of drone %s is over; register with a new one", f.id, drone)
		case f.id == r.Session || f.sealed:
		case same && !f.expired:
			before, sealed = append(before, f.id), append(sealed, f.id)
		case f.heard && !f.expired:
			remedy := "give it another name, or stop the other one and wait until it is no longer heard"
			if f.boot == r.BootID {
				remedy = "both have booted as one, so it is this very machine, where the agent that is heard has another data directory: give this one that --data-dir, or another name, or stop the other one and wait until it is no longer heard"
			}
			return nil, nil, nil, messages.Errorf(messages.DroneHeld,
				"the name %s is that of machine %s (boot %s), which was heard %.0f s ago; this is machine %s (boot %s): %s",
				drone, f.machine, f.boot, f.heardAgo, r.MachineID, r.BootID, remedy)
		default:
			sealed = append(sealed, f.id)
		}
	}
	return before, own, sealed, nil
}

// Heard is what a heartbeat gives.
type Heard struct {
	Draining bool
	// Known says that the session is the drone's and lives; otherwise nothing was done.
	Known bool
	// Sealed are the session's backends that are not renewed.
	Sealed []string
	// TemplatesRevision is the counter of all templates.
	TemplatesRevision int64
	// Terms are those by which the lease was renewed.
	Terms lease.Terms
}

// noSpares is what a drone without spares says of them.
const noSpares = "[]"

// Heartbeat notes that a drone lives and renews its session's lease: one row in one round
// trip, whatever the session holds.
func (s *Store) Heartbeat(ctx context.Context, drone string, r *messages.HeartbeatRequest) (heard Heard, err error) {
	terms, spares := s.Terms(), noSpares
	if len(r.Spares) > 0 {
		spares = string(messages.Encode(r.Spares))
	}
	err = again(ctx, func() error {
		heard = Heard{Known: true, Terms: terms}
		b := &pgx.Batch{} // one transaction
		b.Queue(heartbeatSQL, drone, r.Session, r.Ready, r.DroneTimeMS, r.Load.Backends, r.Load.MemoryBytes, r.Load.CPUMillis,
			terms.TTL.Seconds(), s.clock.trusted(), r.NotReady, spares).QueryRow(func(row pgx.Row) error {
			err := row.Scan(&heard.Draining, &heard.TemplatesRevision)
			if errors.Is(err, pgx.ErrNoRows) {
				heard.Known = false
				return nil
			}
			return err
		})
		b.Queue(sealedSQL, drone, r.Session).Query(collectInto(&heard.Sealed, pgx.RowTo[string]))
		return s.pool.SendBatch(ctx, b).Close()
	})
	return heard, wrap("renew a session's lease", err)
}

// HasSession says whether the session is the drone's.
func (s *Store) HasSession(ctx context.Context, drone, session string) (ok bool, err error) {
	err = s.pool.QueryRow(ctx, "select exists (select from drone where name = $1 and session = $2)", drone, session).Scan(&ok)
	return ok, wrap("look up a session", err)
}

func collectInto[T any](list *[]T, scan pgx.RowToFunc[T]) func(pgx.Rows) error {
	return func(rows pgx.Rows) (err error) {
		*list, err = pgx.CollectRows(rows, scan)
		return err
	}
}
