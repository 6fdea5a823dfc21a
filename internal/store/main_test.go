package store_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"pgregory.net/rapid"

	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/internal/lifecycle"
	"github.com/jetway-project/jetway/internal/outbox"
	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/pgtest"
	"github.com/jetway-project/jetway/messages"
)

func TestMain(m *testing.M) {
	testkit.ManyAtOnce()
	testkit.Main(m)
}

var fewer sync.Once

// checkLives is rapid.Check where each check is a life in Postgres.
func checkLives(t *testing.T, life func(*rapid.T)) {
	t.Helper()
	if checks := flag.Lookup("rapid.checks"); testkit.Sized(t, true, false) {
		fewer.Do(func() {
			if checks.Value.String() == checks.DefValue {
				_ = checks.Value.Set("30")
			}
		})
	}
	rapid.Check(t, life)
}

const (
	cluster = "c.test"
	session = "s-1"
)

// db is a store with a way around it: to look at rows, and to change what only
// time or another process would change.
type db struct {
	*store.Store
	t   testing.TB
	dsn string
	raw *pgxpool.Pool
}

// newDB gives one in which time stands still.
func newDB(t testing.TB) *db {
	t.Helper()
	return newDBOf(t, pgtest.DatabaseOf(t, stillTime)+stillPath)
}

// newRunningDB gives one in which time goes by.
func newRunningDB(t testing.TB) *db {
	t.Helper()
	return newDBOf(t, pgtest.Database(t))
}

// newDBOf gives one of a database that has its tables. Sessions are what tests cost most: so the way around the store
// is by the store's own pool, and nobody watches the database with a session beside it.
func newDBOf(t testing.TB, dsn string) *db {
	t.Helper()
	s, err := store.OpenUnwatched(t.Context(), store.Config{DSN: dsn, MaxConns: 9, Terms: lease.DefaultTerms})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	if err := s.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	return &db{Store: s, t: t, dsn: dsn, raw: store.PoolOf(s)}
}

func open(t testing.TB, dsn string) *store.Store {
	t.Helper()
	return openWith(t, dsn, lease.DefaultTerms)
}

func openWith(t testing.TB, dsn string, terms lease.Terms) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{DSN: dsn, MaxConns: 6, Terms: terms})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func (d *db) exec(sql string, args ...any) {
	d.t.Helper()
	if _, err := d.raw.Exec(context.Background(), sql, args...); err != nil {
		d.t.Fatalf("%s: %v", sql, err)
	}
}

// one gives the one value of a query.
func one[T any](d *db, sql string, args ...any) (v T) {
	d.t.Helper()
	if err := d.raw.QueryRow(context.Background(), sql, args...).Scan(&v); err != nil {
		d.t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// blocked waits until n statements wait for a lock in this database.
func (d *db) blocked(n int) {
	d.t.Helper()
	testkit.Eventually(d.t, fmt.Sprintf("%d statements wait for a lock", n), func() bool {
		return one[int](d, `select count(*) from pg_stat_activity
			where datname = current_database() and wait_event_type = 'Lock'`) >= n
	})
}

// drone registers one that is ready for backends.
func (d *db) drone(name string) {
	d.t.Helper()
	d.register(name, session)
}

func (d *db) register(name, session string, backends ...string) (held, orphans []string) {
	d.t.Helper()
	done, err := d.Register(d.t.Context(), name, registration(name, session, backends...))
	if err != nil {
		d.t.Fatal(err)
	}
	for _, c := range done.Orphans {
		orphans = append(orphans, c.BackendID)
	}
	for _, id := range backends {
		if !slices.Contains(done.Lost, id) && !slices.Contains(done.Sealed, id) {
			held = append(held, id)
		}
	}
	d.renew(name, session)
	return held, orphans
}

// registration is that of a drone's own machine.
func registration(name, session string, backends ...string) *messages.RegisterRequest {
	return &messages.RegisterRequest{
		Session: session, MachineID: "m-" + name, BootID: "boot", Cluster: cluster, DroneTimeMS: 1000, Backends: backends,
	}
}

// renew heartbeats and gives those of the backends whose keys were renewed with it.
func (d *db) renew(drone, session string, backends ...string) (renewed []string) {
	d.t.Helper()
	heard, err := d.Heartbeat(d.t.Context(), drone, &messages.HeartbeatRequest{Session: session, DroneTimeMS: 2000, Ready: true})
	if err != nil || !heard.Known {
		d.t.Fatalf("heartbeat: known %v, %v", heard.Known, err)
	}
	for _, id := range backends {
		if !slices.Contains(heard.Sealed, id) &&
			one[bool](d, `select exists (select from backend where id = $1 and drone = $2 and session = $3 and status < 70)`, id, drone, session) {
			renewed = append(renewed, id)
		}
	}
	return renewed
}

// want asks for a key, to be spawned under id.
func want(key, id, drone string) lease.Want {
	k := messages.Key{Name: key}
	return lease.Want{
		Key: k,
		Spawn: &lease.Spawn{
			BackendID: id, IDGiven: true, Cluster: cluster, Drone: drone, Session: session,
			Body: outbox.SpawnBody{Spawn: messages.Spawn{Session: session, Key: k, Executable: json.RawMessage(`{}`)}},
		},
		Tokens: []lease.Token{{Hash: lease.HashToken("token-of-" + id), Secret: "secret", User: "u", Auth: []byte(`{"a":"\u0000"}`), LifeSeconds: 3600}},
	}
}

func (d *db) connect(wants ...lease.Want) ([]lease.Got, []outbox.Row) {
	d.t.Helper()
	got, rows, err := d.Connect(d.t.Context(), wants)
	if err != nil {
		d.t.Fatal(err)
	}
	return got, rows
}

// spawn connects to a key that nobody holds and gives the fencing token.
func (d *db) spawn(key, id, drone string) int64 {
	d.t.Helper()
	got, rows := d.connect(want(key, id, drone))
	if got[0].Result == lease.Unheld { // on a slow machine the drone has not been heard for a while
		d.exec(`update session set heard_at = now() where drone = $1`, drone)
		got, rows = d.connect(want(key, id, drone))
	}
	if got[0].Result != lease.Acquired {
		d.t.Fatalf("connect to %q: result %d, want it acquired", key, got[0].Result)
	}
	for _, r := range rows {
		if r.Kind == outbox.KindSpawn && r.BackendID == id {
			return r.FencingToken
		}
	}
	d.t.Fatalf("no spawn among %v", rows)
	return 0
}

func reported(id string, status messages.Status) store.Change {
	return store.Change{BackendID: id, Event: lifecycle.Reported{State: messages.State{Status: status}}}
}

func (d *db) transition(changes ...store.Change) []outbox.Row {
	d.t.Helper()
	rows, foreign, err := d.Transition(d.t.Context(), nil, changes)
	if err != nil || len(foreign) > 0 {
		d.t.Fatalf("transition: foreign %v, %v", foreign, err)
	}
	return rows
}

// expire has one backend's key end, as one that was sealed; the others of its session live on.
func (d *db) expire(id string) {
	d.exec(`update lease set sealed_until = now() - interval '1 second' where backend_id = $1`, id)
}

// expireSession has the lease of a drone's session end.
func (d *db) expireSession(drone string) {
	d.exec(`update session set expires_at = now() - interval '1 second', due_at = now() - interval '1 second',
		heard_at = now() - interval '61 seconds' where drone = $1`, drone)
}

func (d *db) status(id string) messages.BackendInfo {
	d.t.Helper()
	info, ok, err := d.Backend(d.t.Context(), id)
	if err != nil || !ok {
		d.t.Fatalf("backend %s: found %v, %v", id, ok, err)
	}
	return info
}

// statesOf are the states among rows, of one backend.
func statesOf(rows []outbox.Row, id string) (states []messages.Status) {
	for _, r := range rows {
		if r.Kind == outbox.KindState && r.BackendID == id {
			states = append(states, r.Status)
		}
	}
	return states
}
