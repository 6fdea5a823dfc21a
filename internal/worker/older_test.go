package worker_test

import (
	"io/fs"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/pgtest"
	"github.com/jetway-project/jetway/internal/worker"
	"github.com/jetway-project/jetway/messages"
	"github.com/jetway-project/jetway/migrations"
)

// The demand: a backup of before a migration is restored under workers that run: nobody has to restart one. They migrate it as at
// a start, say so in one line, and a drone's backends run on.
// Found by restoring one: Internal, SQLSTATE 42703, until somebody restarted a worker.
func TestI1WorkersMigrateADatabaseThatWasRestoredFromBeforeAMigration(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var log logs
	startWorker(t, w, "wo-a", options{ttl: testkit.Patience / 6, change: func(c *worker.Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) }})
	d := startDrone(t, w, "dr-a", w.url)
	kept := awaitReady(t, w, "kept")
	// The last migration is undone in a copy, which is the backup; then the copy takes the database's place.
	exec := func(sql string) {
		t.Helper()
		_, err := w.db.Exec(t.Context(), sql)
		must(t, err)
	}
	dump := filepath.Join(t.TempDir(), "dump")
	files, err := fs.Glob(migrations.FS, "*.sql")
	must(t, err)
	last, err := migrations.FS.ReadFile(slices.Max(files))
	must(t, err)
	_, undo, _ := strings.Cut(string(last), "---- create above / drop below ----")
	exec(undo)
	exec(`update jetway_schema_version set version = version - 1`)
	pgtest.Program(t, w.dsn, "pg_dump", "-Fc", "-f", dump)
	pgtest.Restore(t, w.dsn, dump)
	testkit.Eventually(t, "a worker has migrated it", func() bool { return len(log.with("the database is migrated")) > 0 })
	testkit.Eventually(t, "it is joined", func() bool {
		got, refusal := w.awaitConnect(w.sendConnect(spawnKey("kept"), testkit.Patience))
		switch {
		case refusal == nil:
			return got.BackendID == kept.BackendID && !got.Spawned
		case refusal.Kind != messages.Unavailable:
			t.Fatalf("a connect is refused with %v", refusal)
		}
		return false
	})
	if live := d.rt.Live(); len(live) != 1 || live[0].BackendID() != kept.BackendID {
		t.Errorf("%d backends run", len(live))
	}
}

// I1: a worker that is started on another database than one that runs answers nothing, and its log and its readiness say which
// worker it waits for; when that one has left, it answers. One that is led to another database while it runs says so, and so does
// the other.
// Found by giving workers a new DSN one by one: a drone went back and forth between two databases.
func TestI1WorkersOfTwoDatabasesDoNotBothAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stopA := startWorker(t, w, "wo-a", options{})
	var log logs
	s, change := show(t)
	ready := make(chan struct{})
	go func() {
		defer close(ready)
		startWorker(t, w, "wo-b", options{dsn: pgtest.Database(t), change: func(c *worker.Config) {
			change(c)
			c.SweepEvery, c.CompareEvery = 100*time.Millisecond, 100*time.Millisecond
			c.Log = slog.New(slog.NewTextHandler(&log, nil))
		}})
	}()
	testkit.Eventually(t, "its log says that it waits", func() bool { return len(log.with("another worker answers from another database")) == 1 })
	s.awaitReady(http.StatusServiceUnavailable, "not ready: starting: waiting until worker wo-a leaves another database than this one's")
	select {
	case <-ready:
		t.Error("it answers")
	default:
	}
	stopA()
	testkit.Receive(t, ready, "it answers")
	s.awaitReady(http.StatusOK, "ready\n")

	// Two that run.
	_, err := w.nc.Subscribe("$SRV.PING.jetway", func(msg *nats.Msg) {
		_ = msg.Respond(messages.Encode(micro.Ping{ServiceIdentity: micro.ServiceIdentity{
			Name: "jetway", ID: "another", Metadata: map[string]string{"worker": "wo-c", "database": "0123456789"},
		}}))
	})
	must(t, err)
	s.awaitReady(http.StatusServiceUnavailable, "not ready: worker wo-c answers from another database")
	if lines := log.with("stop the worker whose --postgres is wrong"); len(lines) != 1 {
		t.Errorf("it is said %d times: %s", len(lines), lines)
	}
}
