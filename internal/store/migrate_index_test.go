package store_test

import (
	"io/fs"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/pgtest"
	"github.com/jetway-project/jetway/migrations"
)

// I6 and I7: an index on a table that has rows is built while others write, and what a run that was
// cut off left behind is built anew.
func TestI6I7EveryIndexOfALargeTableIsBuiltBesideThoseWhoWrite(t *testing.T) {
	t.Parallel()
	names, err := fs.Glob(migrations.FS, "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	created := regexp.MustCompile(`(?i)create (?:unique )?index (concurrently )?(?:if not exists )?(\w+) on (\w+)`)
	for _, name := range names[4:] { // those before made the tables, or moved a system that was stopped
		data, err := fs.ReadFile(migrations.FS, name)
		if err != nil {
			t.Fatal(err)
		}
		up, _, _ := strings.Cut(string(data), "---- create above / drop below ----")
		for _, index := range created.FindAllStringSubmatch(up, -1) {
			switch {
			case strings.Contains(up, "create table "+index[3]+" "): // it is empty
			case index[1] == "":
				t.Errorf("%s builds %s while nobody can write %s: see the package comment", name, index[2], index[3])
			case !strings.Contains(up, "drop index concurrently if exists "+index[2]+";\n"):
				t.Errorf("%s does not drop what a run that was cut off has left of %s: see the package comment", name, index[2])
			}
		}
	}
}

// mixedFrom is the last migration for which all workers were stopped. Beside those that come later, workers of the version
// before run on.
const mixedFrom = 6

// breaking is what a worker of the version before does not outlive: what it reads or writes is gone, or it leaves out
// what must be there.
var breaking = regexp.MustCompile(`(?i)\b(drop (table|column|view|sequence)|rename|alter column \w+ (set data )?type|set not null|add (constraint|check|unique)|add column [^,;]* not null[^,;]*[,;])`)

// I7: what an earlier worker reads and writes is there when a later one has migrated. What is to go goes in a version after one that does not use it.
func TestI7LaterMigrationsLeaveEarlierWorkersWhatTheyUse(t *testing.T) {
	t.Parallel()
	breaks := func(sql string) (found []string) {
		for _, part := range breaking.FindAllString(sql+";", -1) {
			if !strings.Contains(strings.ToLower(part), " default ") {
				found = append(found, part)
			}
		}
		return found
	}
	for sql, bad := range map[string]bool{
		"alter table a add column b int":                                           false,
		"alter table a add column b int not null default 1, add column c text":     false,
		"alter table a add column b int not null":                                  true,
		"alter table a add column b int not null, add column c int default 1":      true,
		"alter table a rename column b to c":                                       true,
		"alter table a drop column b":                                              true,
		"alter table a alter column b type bigint":                                 true,
		"alter table a alter column b set not null":                                true,
		"create table a (b int not null); create index c on a (b)":                 false,
		"drop index concurrently if exists a; create index concurrently a on b(c)": false,
	} {
		if (breaks(sql) != nil) != bad {
			t.Errorf("of %q it is said %q", sql, breaks(sql))
		}
	}
	names, err := fs.Glob(migrations.FS, "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names[min(mixedFrom, len(names)):] {
		data, err := fs.ReadFile(migrations.FS, name)
		if err != nil {
			t.Fatal(err)
		}
		up, _, _ := strings.Cut(string(data), "---- create above / drop below ----")
		if found := breaks(up); found != nil {
			t.Errorf("%s breaks workers of the version before, which run on: %q", name, found)
		}
	}
}

// A worker that dies while it builds an index leaves one that nothing can use. The next worker builds it anew; the log
// says how far it is.
func TestI6IndexThatWasCutOffIsBuiltAnew(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Empty(t)
	s, _ := migrator(t, dsn)
	if err := s.MigrateWith(t.Context(), upTo(t, 4)); err != nil {
		t.Fatal(err)
	}
	d := &db{Store: s, t: t}
	var err error
	if d.raw, err = pgxpool.New(t.Context(), dsn+" pool_max_conns=3"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.raw.Close)
	d.listed(1000, 1000)

	// The worker is cut off while it waits for those who may not know the index yet.
	end := reader(t, dsn, "backend")
	first, log := migrator(t, dsn)
	migrated := make(chan error, 1)
	go func() { migrated <- first.MigrateWith(t.Context(), upTo(t, 5)) }()
	const built = `select count(*) from pg_index where indexrelid = to_regclass('backend_live_by_id') and indisvalid = $1`
	testkit.Eventually(t, "the index is there and not valid, and its progress is told", func() bool {
		return one[int](d, built, false) == 1 && log.count("builds an index") > 0 && log.count(`phase="waiting for old snapshots"`) > 0
	})
	if log.count(`index="backend_live_by_id on backend"`) == 0 {
		t.Errorf("the log does not name the index:\n%s", &log.lines)
	}
	d.exec("select pg_terminate_backend(pid) from pg_stat_progress_create_index where datname = current_database()")
	if err := testkit.Receive(t, migrated, "the migration that was cut off"); err == nil {
		t.Fatal("the migration that was cut off ended well")
	}
	end()
	if one[int](d, built, false) != 1 || one[int](d, `select version from jetway_schema_version`) != 4 {
		t.Fatal("there is no index that was cut off")
	}

	second, _ := migrator(t, dsn)
	if err := second.MigrateWith(t.Context(), upTo(t, 5)); err != nil {
		t.Fatal(err)
	}
	if one[int](d, built, true) != 1 || one[int](d, `select version from jetway_schema_version`) != 5 {
		t.Error("the index is not valid")
	}
}

// upTo gives the first migrations.
func upTo(t *testing.T, n int) fstest.MapFS {
	t.Helper()
	files := fstest.MapFS{}
	names, err := fs.Glob(migrations.FS, "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names[:n] {
		data, err := fs.ReadFile(migrations.FS, name)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = &fstest.MapFile{Data: data}
	}
	return files
}
