package store

import (
	"context"
	"sync"
	"time"

	"github.com/jetway-project/jetway/internal/mutant"
)

// A database that was restored, or failed over to, may have forgotten who holds which key, while the processes run
// on. So it says where it was written (the view "here"), which no copy of it can say of itself. In a copy
// nobody is given a key, and nothing counts as expired, until it is settled: a worker has written it anew and
// then watched it for as long as a lease lives. A session that began in another home is over, so its drone
// registers anew, and kills what the database does not know; one that does not has killed all by then (I1).

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

// settleSQL ends the wait in a home, $1.
const settleSQL = `
update setting set settled_home = $1
where exists (select from here h where h.id = $1) and settled_home <> $1`

// home is what a store has seen of where its database is.
type home struct {
	mu      sync.Mutex
	cluster string
	flushed int64         // the greatest place in its log that was on disk
	id      string        // in which it waits
	since   time.Duration // since boot
	wait    time.Duration
}

// seen is what one look says of it.
type seen struct {
	cluster, id   string
	here, settled bool
	flushed       int64
}

// wentBack says whether the log has less on disk than it had before: a copy of the disk was put in its place. That says
// nothing of another timeline, which id tells apart.
func (h *home) wentBack(now seen) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	back := now.cluster == h.cluster && now.flushed < h.flushed
	h.cluster, h.flushed = now.cluster, now.flushed
	return back
}

// waits says whether the wait in a home that is not settled has only begun, and whether it is over. ttl is how long
// leases live or, as far as is known, ever lived.
func (h *home) waits(id string, now, ttl time.Duration) (begins, over bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if mutant.On(mutant.CopyBelieved) {
		ttl = 0
	}
	if h.id != id {
		h.id, h.since, h.wait = id, now, ttl
		return true, false
	}
	h.wait = max(h.wait, ttl)
	return false, now-h.since >= h.wait
}

// lookHome sees to it that a copy of the database is written anew, and is settled in time. at is when it was looked
// at, or later; ttl as of waits.
func (s *Store) lookHome(ctx context.Context, now seen, at, ttl time.Duration) error {
	if s.home.wentBack(now) || !now.here {
		_, err := s.pool.Exec(ctx, enterSQL, now.id)
		return err // the next look begins to wait
	}
	if now.settled {
		return nil
	}
	begins, over := s.home.waits(now.id, at, ttl)
	if begins {
		s.log.Warn("the database was restored or failed over, or is another one: nothing is started, taken over or called lost for as long as a lease lives, in which the drones say what they run",
			"for", ttl, "home", now.id)
	}
	if !over {
		return nil
	}
	tag, err := s.pool.Exec(ctx, settleSQL, now.id)
	if err == nil && tag.RowsAffected() > 0 {
		s.log.Info("the database is settled: backends are started again", "home", now.id)
	}
	return err
}
