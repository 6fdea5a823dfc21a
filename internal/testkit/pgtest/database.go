package pgtest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/jetway-project/jetway/internal/testkit"
)

// databases are those of the shared cluster. A database is several hundred files, and their
// making and deleting cost more than most tests do: so one that a test leaves with the tables
// as they were is emptied for the next test.
var databases struct {
	mu    sync.Mutex
	count int
	free  map[string][]*database // by the name of their kind
}

// database is one that tests use one after another. Its session is testkit's own, by that application_name, and stays for as long as
// the database: a new one would cost more than all that is done in it.
type database struct {
	name, form string
	conn       *pgx.Conn
}

// Kind is of databases in which something is otherwise than in the template.
type Kind struct {
	Name string
	// Once is the SQL that makes the difference.
	Once string
	// Each gives SQL to be run each time that a test gets one; nil: none.
	Each func() string
}

// laterSQL makes the template what a later version may make of a database while workers of this one
// run: each table has one more column. So every test shows that no statement goes by how many there are.
const laterSQL = `
do $$
declare r record;
begin
    for r in select oid::regclass as name from pg_class
        where relnamespace::regnamespace::text = 'public' and relkind = 'r' and relname <> 'jetway_schema_version'
    loop
        execute format('alter table %s add column of_a_later_version int not null default 7', r.name);
    end loop;
end $$`

// Database gives the DSN of a database that has Jetway's tables, with nothing in them. It is
// the test's until it ends.
func Database(t testing.TB) string {
	t.Helper()
	return DatabaseOf(t, Kind{})
}

// DatabaseOf is Database, of a kind.
func DatabaseOf(t testing.TB, kind Kind) string {
	t.Helper()
	ctx := testkit.Context(t)
	databases.mu.Lock()
	var d *database
	if free := databases.free[kind.Name]; len(free) > 0 {
		d, databases.free[kind.Name] = free[len(free)-1], free[:len(free)-1]
	}
	databases.mu.Unlock()
	if d == nil {
		d = makeDatabase(ctx, t, kind)
	}
	t.Cleanup(func() {
		if !d.empty() {
			_ = d.conn.Close(context.Background())
			drop(t, d.name)
			return
		}
		databases.mu.Lock()
		defer databases.mu.Unlock()
		if databases.free == nil {
			databases.free = make(map[string][]*database)
		}
		databases.free[kind.Name] = append(databases.free[kind.Name], d)
	})
	if kind.Each != nil {
		if _, err := d.conn.Exec(ctx, kind.Each()); err != nil {
			t.Fatal(err)
		}
	}
	return Cluster(t).DSN() + " dbname=" + d.name + patient()
}

func makeDatabase(ctx context.Context, t testing.TB, kind Kind) *database {
	t.Helper()
	name := create(t, " template "+template)
	conn, err := pgx.Connect(ctx, Cluster(t).DSN()+" dbname="+name+" application_name=testkit"+patient())
	if err != nil {
		t.Fatal(err)
	}
	d := &database{name: name, form: original.form, conn: conn}
	if kind.Once == "" {
		return d
	}
	if _, err = conn.Exec(ctx, kind.Once); err == nil {
		d.form, err = formOf(ctx, conn)
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// Empty gives the DSN of a fresh database without tables, dropped when the test ends.
func Empty(t testing.TB) string {
	t.Helper()
	name := create(t, "")
	t.Cleanup(func() { drop(t, name) })
	return Cluster(t).DSN() + " dbname=" + name + patient()
}

// OfLanguage is Empty of a database that compares names as people of a language do, such as "en-US", and
// not by their bytes.
func OfLanguage(t testing.TB, language string) string {
	t.Helper()
	name := create(t, fmt.Sprintf(" template template0 locale_provider icu icu_locale '%s'", language))
	t.Cleanup(func() { drop(t, name) })
	return Cluster(t).DSN() + " dbname=" + name + patient()
}

func create(t testing.TB, like string) (name string) {
	t.Helper()
	databases.mu.Lock()
	databases.count++
	name = fmt.Sprintf("t%d", databases.count)
	databases.mu.Unlock()
	// By the log: half of what it costs to copy the files, as measured, and no checkpoint.
	execute(t, Cluster(t).DSN(), "create database "+name+like+" strategy wal_log")
	return name
}

func drop(t testing.TB, name string) {
	t.Helper()
	execute(t, Cluster(t).DSN(), "drop database if exists "+name+" with (force)")
}

// patient is for a database on a slow machine: only what hangs is given up.
func patient() string {
	s := int(testkit.Patience.Seconds())
	return fmt.Sprintf(" connect_timeout=%d statement_timeout=%[2]d lock_timeout=%[2]d idle_in_transaction_session_timeout=%[2]d", s, 1000*s)
}

// formSQL is what tests may change of a database, but for what is in its tables: when one is
// not as the template is, it is not used again.
const formSQL = `
select md5(string_agg(x, E'\n' order by x)) from (
    select concat_ws(' ', 'class', oid::regclass, relkind, relpersistence, reloptions, relhastriggers) from pg_class
    where relnamespace::regnamespace::text not in ('pg_catalog', 'pg_toast', 'information_schema')
    union all select concat_ws(' ', 'schema', nspname) from pg_namespace where nspname !~ '^pg_(toast_)?temp'
    union all select concat_ws(' ', 'column', attrelid::regclass, attnum, attname, atttypid::regtype, attnotnull, atthasdef, attisdropped) from pg_attribute
    where attrelid::regclass::text !~ '^pg_' and attnum > 0
    union all select concat_ws(' ', 'default', adrelid::regclass, adnum, pg_get_expr(adbin, adrelid)) from pg_attrdef
    union all select concat_ws(' ', 'constraint', conrelid::regclass, conname) from pg_constraint where conrelid > 0
    union all select concat_ws(' ', 'trigger', tgrelid::regclass, tgname, tgenabled) from pg_trigger
    union all select concat_ws(' ', 'function', oid::regprocedure) from pg_proc where pronamespace::regnamespace::text = 'public'
    union all select concat_ws(' ', 'statistics', starelid::regclass) from pg_statistic where starelid::regclass::text !~ '^pg_'
    union all select concat_ws(' ', 'setting', s.setconfig::text) from pg_db_role_setting s join pg_database d on d.oid = s.setdatabase
    where d.datname = current_database()
    union all select concat_ws(' ', 'version', version) from public.jetway_schema_version
) f (x)`

// emptySQL empties all tables but the one that says the schema's version.
const emptySQL = `
do $$
declare r record;
begin
    for r in select oid::regclass as name, relkind from pg_class
        where relnamespace::regnamespace::text = 'public' and relkind in ('r', 'S') and relname <> 'jetway_schema_version'
    loop
        if r.relkind = 'S' then
            perform setval(r.name, (select seqstart from pg_sequence where seqrelid = r.name), false);
        elsif pg_relation_size(r.name) > 0 then
            execute format('truncate %s', r.name);
        end if;
    end loop;
end $$`

// empty makes a database as if it were fresh, and says whether it is.
func (d *database) empty() bool {
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	// As with a database that is dropped, nobody is left in it.
	const others = " from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
	for { // until they have ended they note what they have counted
		tag, err := d.conn.Exec(ctx, "select pg_terminate_backend(pid)"+others)
		if err != nil {
			return false
		}
		if tag.RowsAffected() == 0 {
			break
		}
		select {
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done():
			return false
		}
	}
	if form, err := formOf(ctx, d.conn); err != nil || form != d.form {
		return false
	}
	for _, sql := range []string{emptySQL, "select pg_stat_force_next_flush()", "select pg_stat_reset()"} {
		if _, err := d.conn.Exec(ctx, sql); err != nil {
			return false
		}
	}
	return true
}

func formOf(ctx context.Context, conn *pgx.Conn) (form string, err error) {
	err = conn.QueryRow(ctx, formSQL).Scan(&form)
	return form, err
}
