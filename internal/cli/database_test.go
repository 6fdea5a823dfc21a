package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/internal/testkit/pgtest"
	"github.com/jetway-project/jetway/messages"
)

// I1: an operator says with a command, without SQL, that a database is a copy, or that it has lost nothing.
func TestI1OperatorSaysWhatTheDatabaseIs(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	migrated(t, dsn)
	says := func(want string, args ...string) {
		t.Helper()
		stdout, stderr, code := jetway(t, append([]string{"database", "--postgres", dsn}, args...)...)
		if wantCode(t, code, ExitOK); !strings.HasPrefix(stdout, want) || stderr != "" {
			t.Errorf("%v says %q and %q, wanted %q", args, stdout, stderr, want)
		}
	}
	const believed, unfound, waits = "the workers believe what the database says\n",
		"no worker has found this database yet; from when one has, the workers start and take over nothing for 1m0s at least", "the workers start and take over nothing for another "
	says(believed)
	says(believed, "complete")
	says(unfound, "restored")
	says(unfound)
	refused(t, ExitFailed, "no worker has found yet that the database was restored or failed over: start a worker", "database", "--postgres", dsn, "complete")
	migrated(t, dsn) // a worker that starts looks at it,
	migrated(t, dsn) // and once more
	says(waits)
	left := func() (state databaseState) {
		t.Helper()
		stdout, stderr, _ := jetway(t, "database", "--postgres", dsn, "--json")
		if err := json.Unmarshal([]byte(stdout), &state); err != nil {
			t.Fatalf("%v: %s %s", err, stdout, stderr)
		}
		return state
	}
	if s := left(); s.Believed || !s.Found || s.LeftMS <= 0 || s.LeftMS > 60_000 {
		t.Errorf("while they wait %+v", s)
	}
	says(believed, "complete")
	if s := left(); s != (databaseState{Believed: true, Found: true}) {
		t.Errorf("at last %+v", s)
	}
	refused(t, ExitUsage, `"gone": a database is said to be restored or complete`, "database", "--postgres", dsn, "gone")
	refused(t, ExitFailed, store.ErrNotMigrated.Error(), "database", "--postgres", pgtest.Empty(t))
	refused(t, ExitUnavailable, "the database cannot be reached", "database", "restored", "--postgres", "host=127.0.0.1 port=1 dbname=x user=x")
}

// The demand: commands that ask the database itself say of one of another version which it is and what to do, without SQL.
func TestCommandsSayOfADatabaseThatItIsOfAnotherVersion(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	migrated(t, dsn)
	for _, c := range [][2]string{{"- 1", "this jetway needs"}, {"+ 2", "this jetway knows"}} {
		by, want := c[0], c[1]
		queried[int](t, dsn, `update jetway_schema_version set version = version `+by+` returning version`)
		for _, command := range [][]string{{"database"}, {"database", "restored"}, {"database", "complete"}, {"lease-ttl"}, {"lease-ttl", "20s"}} {
			_, stderr, code := jetway(t, append(command, "--postgres", dsn)...)
			if code != ExitFailed || !strings.HasPrefix(stderr, "jetway: the database is at version ") || !strings.Contains(stderr, want) || strings.Contains(stderr, "SQLSTATE") {
				t.Errorf("%s: %v says %q, and ends with %d", by, command, stderr, code)
			}
		}
	}
}

// The demand: who is told to wait for a database is not told to see whether it runs.
func TestAdviceOfUnavailableIsThatOfItsReason(t *testing.T) {
	t.Parallel()
	for reason, want := range map[string]string{
		"": "see that NATS, a worker and its database run", messages.UnavailableRestored: "jetway database shows", messages.UnavailableMigrating: "the worker's log says",
	} {
		if f := explain(&messages.Error{Kind: messages.Unavailable, Message: "x", Reason: reason}); !strings.HasPrefix(f.do, want) || f.code != ExitUnavailable {
			t.Errorf("%q: %+v", reason, f)
		}
	}
}
