package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/jetway-project/jetway/internal/mutant"
)

// A database that was restored, or failed over to, may have forgotten who holds which key, while the processes run
// on. So it says where it was written (the view "here"), which no copy of it can say of itself. In a copy
// nobody is given a key, and nothing counts as expired, until it is settled: a worker has written it anew and
// then watched it for as long as a lease lives. A session that began in another home is over, so its drone
// registers anew, and kills what the database does not know; one that does not has killed all by then (I1).
//
// A worker that is led back to a database where it was before, as to a primary that was never fenced, finds that one at
// home and settled; but not the one that it saw last. So it knows, and its sessions say so before they do anything else.

// clusterSQL has a session say where it is. It cannot come to be elsewhere: one that is let in at a standby is refused.
const clusterSQL = `
select set_config('jetway.cluster', (select system_identifier from pg_control_system()) || '.' ||
    substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) || '.' ||
    (select oid from pg_database where datname = current_database()), false)`

// firstSettingSQL makes the settings, and the home, of a database that has none: it is new.
const firstSettingSQL = `
with first as (
    insert into home (id)
    select current_setting('jetway.cluster') || '.' || 'home'::regclass::oid || '.' || pg_current_xact_id()::xid
    where not exists (select from setting)
    on conflict do nothing
    returning id
)
insert into setting (lease_ttl_ms, settled_home)
values ($1, coalesce((select f.id from first f), ''))
on conflict do nothing`

// enterSQL writes the home anew that was found, $1, once however many workers find it.
const enterSQL = `
insert into home (id)
values (current_setting('jetway.cluster') || '.' || 'home'::regclass::oid || '.' || pg_current_xact_id()::xid)
on conflict (only_row) do update set id = excluded.id
where home.id = $1`

// leaveSQL has a settled database not be believed that is not home $1 any more, or of which the log has less on disk than $2.
const leaveSQL = `
update home set id = ''
where exists (select from settled) and (id <> $1 or (pg_current_wal_flush_lsn() - '0/0')::int8 < $2)`

// believeSQL ends the wait in the home where it is.
const believeSQL = `update setting set settled_home = h.id from here h`

// copySQL is what an operator says of a database that looks like the one of which it is a copy.
const copySQL = `update home set id = ''`

// settleSQL ends the wait in a home, $1.
const settleSQL = `
update setting set settled_home = $1
where exists (select from here h where h.id = $1) and settled_home <> $1`

// sayLeftSQL says for how many seconds, $2, the workers wait in home $1 at most: what any has said of another home or, with $3, what
// a worker has said that is not there any more, does not count.
const sayLeftSQL = `
update setting set settles_home = $1, settles_at = now() + make_interval(secs => $2)
where $3 or settles_home <> $1 or settles_at > now() + make_interval(secs => $2 + 1)`

// home is what a store has seen of where its database is.
type home struct {
	mu     sync.Mutex
	last   seen          // at the last look
	id     string        // in which it waits
	since  time.Duration // since boot
	wait   time.Duration
	untold bool // that the wait is over
	silent bool // the last look failed
}

// seen is what one look says of it.
type seen struct {
	id            string
	here, settled bool
	flushed       int64 // the greatest place in its log that was on disk
}

// elsewhere says whether a settled database is another one than at the last look, or has less on disk: a copy of the
// disk was put in its place.
func (h *home) elsewhere(now seen) bool {
	last := h.lastSeen()
	return last.id != "" && now.settled && (now.id != last.id || now.flushed < last.flushed)
}

func (h *home) lastSeen() seen {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last
}

func (h *home) see(now seen) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last = now
}

// waits gives how much is left of the wait in a home that is not settled, and whether that has only begun or become
// longer. ttl is how long leases live or, as far as is known, ever lived.
func (h *home) waits(id string, now, ttl time.Duration) (left time.Duration, begins, longer bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if mutant.On(mutant.CopyBelieved) {
		ttl = 0
	}
	if h.id != id {
		h.id, h.since, h.wait, h.untold = id, now, ttl, true
		return ttl, true, true
	}
	longer = ttl > h.wait
	h.wait = max(h.wait, ttl)
	return h.wait - (now - h.since), false, longer
}

// left is how much of the wait is left at most, as far as this worker knows: another one may have begun earlier. ttl is all
// of it, where it has not begun.
func (h *home) left(now, ttl time.Duration) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.untold {
		return ttl
	}
	return max(time.Second, h.wait-(now-h.since)) // the next look ends it
}

// isOver says, once, that the wait is over.
func (h *home) isOver() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	was := h.untold
	h.untold = false
	return was
}

// lookHome sees to it that a copy of the database is written anew, and is settled in time. at is when it was looked
// at, or later; ttl as of waits.
func (s *Store) lookHome(ctx context.Context, now seen, at, ttl time.Duration) error {
	if s.home.elsewhere(now) || !now.here {
		_, err := s.pool.Exec(ctx, enterSQL, now.id)
		if err == nil {
			s.home.see(seen{flushed: now.flushed})
		}
		return err // the next look begins to wait
	}
	s.home.see(now)
	if now.settled {
		if s.home.isOver() { // whoever settled it, another worker or an operator
			s.log.Info("the database is settled: backends are started again", "home", now.id)
		}
		return nil
	}
	left, begins, longer := s.home.waits(now.id, at, ttl)
	if begins {
		s.log.Warn("the database was restored or failed over, or is another one: nothing is started, taken over or called lost for as long as a lease lives, in which the drones say what they run",
			"for", ttl, "home", now.id)
	}
	if begins || left > 0 {
		_, err := s.pool.Exec(ctx, sayLeftSQL, now.id, left.Seconds(), longer)
		return err
	}
	_, err := s.pool.Exec(ctx, settleSQL, now.id)
	return err
}

// arrive has a new session, which is set up, not believe a database that is another one than at the last look. It
// cannot wait for the next one, for somebody may be given a key meanwhile (I1).
func (s *Store) arrive(ctx context.Context, conn *pgconn.PgConn, last seen) error {
	if id := s.home.lastSeen().id; id != last.id {
		last = seen{id: id} // the database was looked at while this session was set up: what was seen before is too old to judge by
	}
	if last.id == "" {
		return nil
	}
	err := conn.ExecParams(ctx, leaveSQL, [][]byte{[]byte(last.id), strconv.AppendInt(nil, last.flushed, 10)}, nil, nil, nil).Read().Err
	if code(err) == codeUndefinedTable {
		return nil // nobody has made the tables yet
	}
	return err
}

// ErrNotFoundYet says of a database that is a copy that no worker has found it yet.
var ErrNotFoundYet = errors.New("no worker has found yet that the database was restored or failed over")

// Belief is whether the workers believe what the database says.
type Belief struct {
	Believed bool
	// Found says that a worker has found that it is a copy, and waits in it for Left.
	Found bool
	// Left is how long the first of the workers still waits or, if none has found it, how long it will wait by what the database knows.
	Left time.Duration
}

const beliefSQL = `
select exists (select from settled), coalesce(h.id = t.settles_home, false),
       greatest(0, case when h.id = t.settles_home then extract(epoch from t.settles_at - now())
                        else greatest(t.lease_ttl_ms, t.longest_ttl_ms) / 1000.0 end)::float8
from setting t
left join here h on true`

// Believed says whether the database is believed, and for how long it is not.
func (s *Store) Believed(ctx context.Context) (b Belief, err error) {
	var left float64
	err = s.pool.QueryRow(ctx, beliefSQL).Scan(&b.Believed, &b.Found, &left)
	b.Left = time.Duration(left * float64(time.Second))
	return b, refusedOf(err)
}

// Distrust has the database not be believed for as long as a lease lives: it is a copy although it looks like the
// original.
func (s *Store) Distrust(ctx context.Context) error {
	_, err := s.pool.Exec(ctx, copySQL)
	return refusedOf(err)
}

// Believe ends the wait in a database that has lost nothing. Before a worker has found that there is one to end it
// gives ErrNotFoundYet.
func (s *Store) Believe(ctx context.Context) error {
	tag, err := s.pool.Exec(ctx, believeSQL)
	if err == nil && tag.RowsAffected() == 0 {
		return ErrNotFoundYet
	}
	return refusedOf(err)
}

// Database names, in a few letters, the database that the last look was at: two workers whose names for it differ are not at the
// same one, or not yet. It is "" while that is not known, as where the last look failed.
func (s *Store) Database() string {
	s.home.mu.Lock()
	defer s.home.mu.Unlock()
	if s.home.silent || s.home.last.id == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(s.home.last.id))
	return hex.EncodeToString(sum[:5])
}

func (h *home) looked(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.silent = err != nil
}
