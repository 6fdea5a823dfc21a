package store_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/pgtest"
	"github.com/jetway-project/jetway/messages"
)

// I7: whatever an administrator has set for the database or the role, each statement does what it does.
func TestI7SettingsOfTheDatabaseBreakNoStatement(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	d := newDBAt(t, dsn)
	for _, set := range []string{
		"default_transaction_isolation = 'serializable'", "default_transaction_deferrable = on",
		// Long enough for a slow machine to connect.
		"statement_timeout = 60020", "lock_timeout = 60001", "idle_in_transaction_session_timeout = 60002", "idle_session_timeout = 60100",
		"client_encoding = 'LATIN1'", "standard_conforming_strings = off", "bytea_output = 'escape'", "datestyle = 'SQL, DMY'", "intervalstyle = 'sql_standard'",
		"timezone = 'Asia/Kathmandu'", "extra_float_digits = -3", "row_security = off", "array_nulls = off", "transform_null_equals = on",
		"synchronous_commit = off", // a key given away by a commit that a crash takes back is given to two (I1)
	} {
		d.exec("do $$ begin execute format('alter database %I set " + strings.ReplaceAll(set, "'", "''") + "', current_database()); end $$")
	}
	// From a new database on: migrations too.
	plain, _, _ := strings.Cut(dsn, " connect_timeout") // what else it says is for slow machines
	s := open(t, plain)
	for name, want := range map[string]string{
		"transaction_isolation": "read committed", "statement_timeout": "15s", "lock_timeout": "5s", "timezone": "UTC",
		"idle_in_transaction_session_timeout": "15s", "idle_session_timeout": "0", "client_encoding": "UTF8", "standard_conforming_strings": "on",
		"jit": "off", "synchronous_commit": "local", "plan_cache_mode": "force_generic_plan", "enable_seqscan": "off",
	} {
		if got, err := s.Setting(t.Context(), name); err != nil || got != want {
			t.Errorf("%s is %q in a session, %v, want %q", name, got, err, want)
		}
	}
	s = open(t, dsn)
	later := &db{Store: s, t: t, raw: d.raw}
	later.drone("dr-a")
	var asking sync.WaitGroup
	for a := range 6 {
		asking.Go(func() {
			for i := range 30 {
				// All of them want the same keys.
				key, id := fmt.Sprintf("猫'\\%d", i), fmt.Sprintf("b-%d-%d", a, i)
				got, _, err := s.Connect(t.Context(), []lease.Want{want(key, id, "dr-a")})
				for err == nil && (got[0].Result == lease.Unsettled || got[0].Result == lease.Unheld) { // it lost a race, and looks again
					got, _, err = s.Connect(t.Context(), []lease.Want{want(key, id, "dr-a")})
				}
				if err != nil || got[0].Result != lease.Acquired && got[0].Result != lease.Held {
					t.Errorf("connect: %+v, %v", got, err)
					return
				}
			}
		})
	}
	asking.Wait()
	if n := one[int](d, "select count(*) from lease where name like '猫%'"); n != 30 {
		t.Errorf("%d keys are held, want 30", n)
	}
}

// The demand: default_transaction_read_only is how an operator fences a database off. It is obeyed, at once, and said.
func TestFencedDatabaseIsNotWrittenTo(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	d := newDBAt(t, dsn)
	if err := d.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	fence := func(on string) {
		d.exec("do $$ begin execute format('alter database %I set default_transaction_read_only = " + on + "', current_database()); end $$")
	}
	fence("on")
	d.exec("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'jetway' and datname = current_database()")
	testkit.Eventually(t, "it is refused", func() bool {
		err := d.Ping(t.Context())
		return messages.KindOf(err) == messages.Unavailable && strings.Contains(err.Error(), "default_transaction_read_only is on")
	})
	fence("off")
	testkit.Eventually(t, "it writes again", func() bool { return d.Ping(t.Context()) == nil })
}

// I7: a session that turns read-only under a statement is not asked again, and no other one either.
func TestI7ReadOnlySessionsAreLeft(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	if err := d.MakeReadOnly(t.Context()); err != nil {
		t.Fatal(err)
	}
	failed := 0
	for range 50 {
		if _, _, err := d.Connect(t.Context(), []lease.Want{want("doc", "b-1", "dr-none")}); err != nil {
			if messages.KindOf(err) != messages.Unavailable {
				t.Errorf("the error is %v", err)
			}
			failed++
		}
	}
	if failed != 1 {
		t.Errorf("%d statements failed, want the first", failed)
	}
}

// A database that cannot hold every name is refused at the start, with what to do about it.
func TestDatabaseOfAnotherEncodingIsRefused(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	name := one[string](d, "select current_database() || '_latin1'")
	d.exec("create database " + name + " encoding 'LATIN1' template template0")
	defer d.exec("drop database " + name + " with (force)")
	s := open(t, pgtest.Cluster(t).DSN()+" dbname="+name)
	defer s.Close()
	if err := s.Migrate(t.Context()); err == nil || !strings.Contains(err.Error(), "encoding is LATIN1") || messages.KindOf(err) != "" {
		t.Errorf("migrate: %v", err)
	}
}
