package store_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/internal/lifecycle"
	"github.com/jetway-project/jetway/internal/outbox"
	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/pgtest"
	"github.com/jetway-project/jetway/messages"
)

// copies are the ways in which a database becomes another one that looks the same. Each gives a store, and a way
// around it, at the copy of d's database as it was then, without what was committed between copy and use.
var copies = map[string]func(t *testing.T, d *db) (use func() *db){
	"a dump restored in its place, under the workers": func(t *testing.T, d *db) func() *db {
		t.Helper()
		file := d.pgDump()
		return func() *db {
			pgtest.Restore(t, d.dsn, file)
			return d
		}
	},
	"its rows put back into the tables": func(t *testing.T, d *db) func() *db {
		t.Helper()
		file := d.pgDump()
		return func() *db {
			pgtest.Program(t, d.dsn, "psql", "-v", "ON_ERROR_STOP=1", "-1",
				"-c", "truncate home, setting, drone, session, lease, backend, token, outbox, connection, proxy, jetway_schema_version",
				"-c", `\i `+restoreScript(t, file))
			return d
		}
	},
	"a dump restored into a new database": func(t *testing.T, d *db) func() *db {
		t.Helper()
		file := d.pgDump()
		return func() *db {
			dsn := pgtest.Empty(t)
			pgtest.Program(t, dsn, "pg_restore", file)
			return newDBAt(t, dsn)
		}
	},
	"a database made from it as a template": func(t *testing.T, d *db) func() *db {
		t.Helper()
		name := one[string](d, `select current_database()`)
		d.Close() // nobody may be in a database that is copied
		d.raw.Close()
		admin := raw(t, pgtest.Cluster(t).DSN())
		testkit.Eventually(t, "nobody is in the database for long enough to copy it", func() bool {
			admin.exec(`select pg_terminate_backend(pid) from pg_stat_activity where datname = $1`, name) // the tests' own session
			_, err := admin.raw.Exec(t.Context(), "create database copy_of_"+name+" template "+name+" strategy wal_log")
			return err == nil
		})
		t.Cleanup(func() { admin.exec("drop database copy_of_" + name + " with (force)") })
		*d = *newDBAt(t, d.dsn)
		return func() *db { return newDBAt(t, pgtest.Cluster(t).DSN()+" dbname=copy_of_"+name) }
	},
}

// restoreScript makes a dump's rows SQL.
func restoreScript(t *testing.T, file string) (script string) {
	t.Helper()
	script = file + ".sql"
	pgtest.Program(t, "", "pg_restore", "--data-only", "-f", script, file)
	return script
}

func (d *db) pgDump() (file string) {
	d.t.Helper()
	file = filepath.Join(d.t.TempDir(), "dump")
	pgtest.Program(d.t, d.dsn, "pg_dump", "-Fc", "-f", file)
	return file
}

// raw is a way around the store alone.
func raw(t *testing.T, dsn string) *db {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return &db{t: t, dsn: dsn, raw: pool}
}

func (d *db) wantSettled(what string, want bool) {
	d.t.Helper()
	if settled, err := d.Settled(d.t.Context()); err != nil || settled != want {
		d.t.Fatalf("%s: settled %v, %v; want %v", what, settled, err, want)
	}
}

// wantNotBelieved wants a database that has forgotten that dr-a runs b-forgotten for the key forgotten, and
// says that b-kept has ended its lease, not to be believed.
func (d *db) wantNotBelieved(what string) {
	d.t.Helper()
	ctx := d.t.Context()
	if got, rows := d.connect(want("forgotten", "b-second", "dr-a"), want("new", "b-new", "dr-a")); got[0].Result != lease.Unknown ||
		got[1].Result != lease.Unknown || len(rows) != 0 {
		d.t.Errorf("%s: who asks for a key that nobody seems to hold gets %+v", what, got)
	}
	unspawned := want("forgotten", "", "")
	unspawned.Spawn = nil
	if got, _ := d.connect(unspawned); got[0].Result != lease.Unknown {
		d.t.Errorf("%s: who only asks who holds a key that may be held gets %+v", what, got[0])
	}
	w := want("kept", "b-second", "dr-a")
	w.Tokens[0].Hash = lease.HashToken(what)
	if got, _ := d.connect(w); got[0].Result != lease.Held || got[0].BackendID != "b-kept" {
		d.t.Errorf("%s: who asks for a key of which the holder seems to be gone gets %+v", what, got[0])
	}
	d.wantNothingEnds(what, "b-kept")
	d.exec(`update session set heard_at = now(), ready = true where drone = 'dr-b'`)
	for _, row := range d.transition(store.Change{BackendID: "b-untaken", Event: lifecycle.Forgotten{}}) {
		if row.Kind == outbox.KindSpawn {
			d.t.Errorf("%s: what no drone has taken was placed on another one", what)
		}
	}
	if heard, err := d.Heartbeat(ctx, "dr-a", &messages.HeartbeatRequest{Session: session, Ready: true}); err != nil || heard.Known {
		d.t.Errorf("%s: a session that has not said what it holds is renewed (%v)", what, err)
	}
	if _, err := d.Register(ctx, "dr-a", registration("dr-a", session, "b-kept")); messages.KindOf(err) != messages.NotFound {
		d.t.Errorf("%s: such a session goes on: %v", what, err)
	}
}

func (d *db) wantNothingEnds(what string, backends ...string) {
	d.t.Helper()
	e, err := d.Expire(d.t.Context())
	if err != nil || len(e.Drones) != 0 || len(e.Done) != 0 {
		d.t.Errorf("%s: expired: %+v, %v", what, e, err)
	}
	for _, id := range backends {
		if rows := d.transition(store.Change{BackendID: id, Event: lifecycle.Lost{}}); len(terminations(rows)) != 0 {
			d.t.Errorf("%s: %s is called lost", what, id)
		}
	}
}

// I1: a database that was restored, in whatever way, has forgotten who holds a key. Nobody gets that key while a
// process of it may run: from the first statement on, until every drone has said what it runs, or has killed it.
// Found by restoring a dump: the key was spawned at once, while its drone went on with it until it next compared all.
func TestI1RestoredDatabaseGivesNobodyAKeyOfWhichItForgotTheHolder(t *testing.T) {
	t.Parallel()
	for what, restore := range copies {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			d := newRunningDB(t)
			d.before()
			use := restore(t, d)
			d.spawn("forgotten", "b-forgotten", "dr-a")
			d = use()
			d.wantNotBelieved("at once")
			d.restored()
		})
	}
}

// before is what the copy knows: a drone whose lease has ended by the time it is used, one that waits to be
// given what the first did not take.
func (d *db) before() {
	d.t.Helper()
	d.drone("dr-a")
	d.drone("dr-b")
	d.spawn("kept", "b-kept", "dr-a")
	d.transition(reported("b-kept", messages.Ready))
	w := within(want("untaken", "b-untaken", "dr-a"), time.Hour)
	if got, _ := d.connect(w); got[0].Result != lease.Acquired {
		d.t.Fatal("no b-untaken")
	}
	d.exec(`update session set expires_at = now() - interval '1 second', due_at = now() - interval '1 second' where drone = 'dr-a'`)
}

// restored is how a copy settles.
func (d *db) restored() {
	t := d.t
	t.Helper()
	d.lookAtTheClock()
	d.wantNotBelieved("once a worker has seen it")
	d.lookAtTheClock()
	d.wantSettled("after two looks", false)

	// A drone says what it runs: what is not known ends at once, what it does not name has ended.
	done, err := d.Register(t.Context(), "dr-a", registration("dr-a", "s-2", "b-kept", "b-forgotten"))
	if err != nil || fmt.Sprint(done.Lost) != "[b-forgotten]" {
		t.Fatalf("lost: %v, %v", done.Lost, err)
	}
	d.renew("dr-a", "s-2", "b-kept")
	if got, _ := d.connect(want("forgotten", "b-second", "dr-b")); got[0].Result != lease.Unknown {
		t.Errorf("before other drones have said what they run: %+v", got[0])
	}
	d.HomeWaited()
	// Who asks then is told what is left, and who asked before, a lease's time.
	if got, _ := d.connect(want("forgotten", "b-second", "dr-b")); got[0].Result != lease.Unknown || got[0].ExpiresIn > 2*time.Second {
		t.Errorf("at the end of the wait it is said to take %s yet", got[0].ExpiresIn)
	}
	d.lookAtTheClock()
	d.wantSettled("after a lease's time", true)
	d.renew("dr-a", "s-2")
	w := want("forgotten", "b-second", "dr-a")
	w.Spawn.Session = "s-2"
	if got, _ := d.connect(w); got[0].Result != lease.Acquired {
		t.Errorf("in the end: %+v", got[0])
	}
	d.lookAtTheClock()
	d.wantSettled("and it stays", true)
}

// I1: a promoted standby that lost the last commits is such a copy too; workers that had both addresses go over to it.
func TestI1PromotedStandbyGivesNobodyAKeyOfWhichItForgotTheHolder(t *testing.T) {
	t.Parallel()
	primary, standby := pair(t)
	d := newDBAt(t, at(primary.TCPAddr(), standby.TCPAddr()))
	d.before()
	lsn := one[string](d, `select pg_current_wal_flush_lsn()::text`)
	behind := raw(t, standby.DSN())
	testkit.Eventually(t, "the standby has what is there", func() bool {
		return one[bool](behind, `select pg_last_wal_replay_lsn() >= $1::pg_lsn`, lsn)
	})
	behind.exec(`alter system set primary_conninfo = ''`)
	behind.exec(`select pg_reload_conf()`)
	testkit.Eventually(t, "the standby gets nothing any more", func() bool {
		return one[int](behind, `select count(*) from pg_stat_wal_receiver`) == 0
	})
	d.spawn("forgotten", "b-forgotten", "dr-a")
	if err := primary.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	promote(t, standby)
	testkit.Eventually(t, "the store writes to the promoted one", func() bool { return writes(t, d.Store) })
	d.raw = behind.raw
	if one[int](d, `select count(*) from backend where id = 'b-forgotten'`) != 0 {
		t.Fatal("the standby has lost nothing")
	}
	d.wantNotBelieved("at once")
	d.restored()
}

// I1: the disk is put back as it was, or lost what it had confirmed: the same cluster, on the same timeline. Who was
// there before sees it by the log.
func TestI1DiskThatWentBackIsNotBelieved(t *testing.T) {
	t.Parallel()
	d := newRunningDB(t)
	d.before()
	d.lookAtTheClock()
	d.wantSettled("before", true)
	d.DiskReplaced()
	d.lookAtTheClock()
	d.wantNotBelieved("after")
	d.HomeWaited()
	d.lookAtTheClock()
	d.wantSettled("one wait is not over because another one was", false)
	d.HomeWaited()
	d.lookAtTheClock()
	d.wantSettled("in the end", true)
}

// An operator who knows that a copy looks like the original says so.
func TestI1OperatorSaysThatADatabaseIsACopy(t *testing.T) {
	t.Parallel()
	d := newRunningDB(t)
	d.before()
	d.exec(`update home set id = ''`)
	d.wantNotBelieved("at once")
}

// Nothing that does not go back is taken for a copy: workers that start anew, the settings changed, the tables vacuumed.
func TestDatabaseInUseIsSettled(t *testing.T) {
	t.Parallel()
	d := newRunningDB(t)
	d.wantSettled("new", true)
	if err := d.SetLeaseTTL(t.Context(), lease.Terms{TTL: 20 * time.Second}); err != nil {
		t.Fatal(err)
	}
	d.exec(`vacuum (full, freeze) home`)
	d.exec(`vacuum freeze setting`)
	for range 2 {
		other := open(t, d.dsn)
		if err := errors.Join(other.Migrate(t.Context()), other.SetLeaseTTL(t.Context(), lease.DefaultTerms)); err != nil {
			t.Fatal(err)
		}
	}
	d.lookAtTheClock()
	d.wantSettled("in use", true)
}
