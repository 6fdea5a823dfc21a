package store_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/jetway-project/jetway/internal/testkit"
)

// stillPath has statements find a clock that stands still before Postgres' own.
const stillPath = " search_path=still,pg_catalog,public"

// stillTime has no time pass in a database but what a test lets pass: else a test that stands still for some seconds,
// as on a slow machine, finds drones not heard, backends idle and leases over. It gives the address that leads to that clock.
func stillTime(t testing.TB, dsn string) string {
	t.Helper()
	const clock = `create function still.now() returns timestamptz language sql stable as $f$ select timestamptz '%s' $f$`
	run := func(sql ...string) {
		t.Helper()
		ctx := context.Background() // also when the test has ended
		conn, err := pgx.Connect(ctx, dsn)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(ctx)
		for _, s := range sql {
			if _, err := conn.Exec(ctx, s); err != nil {
				t.Fatalf("%s: %v", s, err)
			}
		}
	}
	run(`create schema still`, fmt.Sprintf(clock, time.Now().UTC().Format(time.RFC3339Nano)), defaults("now()", "still.now()"))
	t.Cleanup(func() { run(defaults("still.now()", "now()"), `drop schema still cascade`) })
	return dsn + stillPath
}

// defaults has the columns that are filled in with the time ask another clock for it.
func defaults(was, is string) string {
	return fmt.Sprintf(`do $$
declare r record;
begin
    for r in select table_name, column_name, column_default from information_schema.columns
        where table_schema = 'public' and column_default like '%%%[1]s%%'
    loop
        execute format('alter table public.%%I alter %%I set default %%s', r.table_name, r.column_name, replace(r.column_default, '%[1]s', '%[2]s'));
    end loop;
end $$`, was, is)
}

// tick lets time go by where it stands still.
func (d *db) tick(by time.Duration) {
	d.t.Helper()
	now := one[time.Time](d, `select now()`).Add(by)
	d.exec(fmt.Sprintf(`create or replace function still.now() returns timestamptz language sql stable as $f$ select timestamptz '%s' $f$`,
		now.UTC().Format(time.RFC3339Nano)))
}

// No time passes in the database of these tests but what they let pass, also for what fills in columns by itself.
func TestTimeStandsStill(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	began := one[time.Time](d, `select now()`)
	testkit.Eventually(t, "time goes by elsewhere", func() bool {
		return one[time.Time](d, `select clock_timestamp()`).Sub(began) > 100*time.Millisecond
	})
	d.drone("dr-a")
	d.spawn("k", "b-1", "dr-a")
	if now := one[time.Time](d, `select now()`); !now.Equal(began) {
		t.Errorf("from %s to %s", began, now)
	}
	if at := one[time.Time](d, `select created_at from backend`); !at.Equal(began) {
		t.Errorf("a row is of %s", at)
	}
	d.tick(time.Minute)
	if now := one[time.Time](d, `select now()`); now.Sub(began) != time.Minute {
		t.Errorf("a minute later it is %s", now)
	}
}
