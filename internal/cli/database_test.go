package cli

import (
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/internal/testkit"
)

// I1: an operator says with a command, without SQL, that a database is a copy, or that it has lost nothing.
func TestI1OperatorSaysWhatTheDatabaseIs(t *testing.T) {
	t.Parallel()
	dsn := testkit.Postgres(t)
	migrated(t, dsn)
	says := func(want string, args ...string) {
		t.Helper()
		stdout, stderr, code := jetway(t, append([]string{"database", "--postgres", dsn}, args...)...)
		if wantCode(t, code, ExitOK); !strings.HasPrefix(stdout, want) || stderr != "" {
			t.Errorf("%v says %q and %q, wanted %q", args, stdout, stderr, want)
		}
	}
	const believed, waits = "the workers believe what the database says\n", "the workers start and take over nothing for 1m0s "
	says(believed)
	says(believed, "complete")
	says(waits, "restored")
	says(waits)
	refused(t, ExitFailed, "no worker has found yet that the database was restored or failed over: start a worker", "database", "--postgres", dsn, "complete")
	migrated(t, dsn) // a worker that starts looks at it
	says(waits)
	says(believed, "complete")
	refused(t, ExitUsage, `"gone": a database is said to be restored or complete`, "database", "--postgres", dsn, "gone")
	refused(t, ExitFailed, store.ErrNotMigrated.Error(), "database", "--postgres", testkit.EmptyPostgres(t))
	refused(t, ExitUnavailable, "the database cannot be reached", "database", "restored", "--postgres", "host=127.0.0.1 port=1 dbname=x user=x")
}
