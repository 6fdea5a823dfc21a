package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/pgtest"
)

// stillPath has statements find a clock that stands still before Postgres' own.
const stillPath = " search_path=still,pg_catalog,public"

// stillTime has no time pass in a database but what a test lets pass: else a test that stands still for some seconds,
// as on a slow machine, finds drones not heard, backends idle and leases over. The columns that are filled in with the
// time ask its clock for it, too.
var stillTime = pgtest.Kind{
	Name: "still",
	Once: `create schema still;` + stands(time.Time{}) + `;
do $$
declare r record;
begin
    for r in select adrelid::regclass as tab, attname, pg_get_expr(adbin, adrelid) as expr
        from pg_attrdef join pg_attribute on attrelid = adrelid and attnum = adnum
        where pg_get_expr(adbin, adrelid) like '%now()%'
    loop
        execute format('alter table %s alter %I set default %s', r.tab, r.attname, replace(r.expr, 'now()', 'still.now()'));
    end loop;
end $$`,
	Each: func() string { return stands(time.Now()) },
}

// stands has the clock that stands still show a time.
func stands(at time.Time) string {
	return fmt.Sprintf(`create or replace function still.now() returns timestamptz language sql stable as $f$ select timestamptz '%s' $f$`,
		at.UTC().Format(time.RFC3339Nano))
}

// tick lets time go by where it stands still.
func (d *db) tick(by time.Duration) {
	d.t.Helper()
	d.exec(stands(one[time.Time](d, `select now()`).Add(by)))
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
