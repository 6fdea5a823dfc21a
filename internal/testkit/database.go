package testkit

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
)

// databases are those of the shared cluster. A database is several hundred files, and their
// making and deleting cost more than most tests: so one that a test leaves with the tables
// as they were is emptied for the next test.
var databases struct {
	mu    sync.Mutex
	count int
	free  []string
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

// Postgres gives the DSN of a database that has Jetway's tables, with nothing in them. It is
// the test's until it ends.
func Postgres(t testing.TB) string {
	t.Helper()
	c := Cluster(t)
	databases.mu.Lock()
	name, free := "", databases.free
	if n := len(free); n > 0 {
		name, databases.free = free[n-1], free[:n-1]
	}
	databases.mu.Unlock()
	if name == "" {
		name = create(t, " template "+template)
	}
	t.Cleanup(func() {
		if empty(t, c.DSN()+" dbname="+name) {
			databases.mu.Lock()
			databases.free = append(databases.free, name)
			databases.mu.Unlock()
			return
		}
		drop(t, name)
	})
	return c.DSN() + " dbname=" + name + patient()
}

// EmptyPostgres gives the DSN of a fresh database without tables, dropped when the test ends.
func EmptyPostgres(t testing.TB) string {
	t.Helper()
	name := create(t, "")
	t.Cleanup(func() { drop(t, name) })
	return Cluster(t).DSN() + " dbname=" + name + patient()
}

// PostgresOfLanguage is EmptyPostgres of a database that compares names as people of a language do, such as "en-US", and
// not by their bytes.
func PostgresOfLanguage(t testing.TB, language string) string {
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
	s := int(Patience.Seconds())
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
            execute format('alter sequence %s restart', r.name);
        elsif pg_relation_size(r.name) > 0 then
            execute format('truncate %s', r.name);
        end if;
    end loop;
end $$`

// empty makes a database as if it were fresh, and says whether it is.
func empty(t testing.TB, dsn string) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return false
	}
	defer conn.Close(ctx)
	// As with a database that is dropped, nobody is left in it.
	const others = " from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
	if _, err := conn.Exec(ctx, "select pg_terminate_backend(pid)"+others); err != nil {
		return false
	}
	for in := true; in; { // until they have ended they note what they have counted
		if err := conn.QueryRow(ctx, "select exists (select"+others+")").Scan(&in); err != nil {
			return false
		}
	}
	if form, err := formOf(ctx, conn); err != nil || form != original.form {
		return false
	}
	for _, sql := range []string{emptySQL, "select pg_stat_reset()"} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return false
		}
	}
	return true
}

func formOf(ctx context.Context, conn *pgx.Conn) (form string, err error) {
	err = conn.QueryRow(ctx, formSQL).Scan(&form)
	return form, err
}
