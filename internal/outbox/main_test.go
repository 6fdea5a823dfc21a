package outbox_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/internal/lifecycle"
	"github.com/jetway-project/jetway/internal/outbox"
	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/internal/testkit/pgtest"
	"github.com/jetway-project/jetway/messages"
)

// crashEnv makes a child of the test binary that commits and kills itself.
const crashEnv = "JETWAY_TEST_COMMIT_AND_CRASH"

func TestMain(m *testing.M) {
	if dsn := os.Getenv(crashEnv); dsn != "" {
		commitAndCrash(dsn)
	}
	testkit.Main(m)
}

func commitAndCrash(dsn string) {
	ctx := context.Background()
	s, err := store.Open(ctx, store.Config{DSN: dsn, Terms: lease.Terms{TTL: time.Hour}})
	if err == nil {
		_, _, err = s.Connect(ctx, []lease.Want{want("k", "b-1")})
	}
	if err == nil {
		err = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	fmt.Fprintln(os.Stderr, "the child could not commit and crash:", err)
	os.Exit(1)
}

const session = "s-1"

func want(key, id string) lease.Want {
	k := messages.Key{Name: key}
	return lease.Want{Key: k, Spawn: &lease.Spawn{
		BackendID: id, IDGiven: true, Cluster: "c.test", Drone: "dr-a", Session: session,
		Body: outbox.SpawnBody{Spawn: messages.Spawn{Session: session, Key: k, Executable: json.RawMessage(`{}`)}},
	}}
}

// rig is a store and a bus with streams, and a way to run relays between them.
type rig struct {
	*store.Store
	t    *testing.T
	dsn  string
	url  string // of NATS, straight
	js   jetstream.JetStream
	each context.Context
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, dsn: pgtest.Database(t), url: natstest.Server(t).URL(), each: t.Context()}
	// The drone speaks once, and is to count as alive however long a test takes.
	s, err := store.Open(r.each, store.Config{DSN: r.dsn, Terms: lease.Terms{TTL: time.Hour}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	r.Store = s
	if err := s.Migrate(r.each); err != nil {
		t.Fatal(err)
	}
	done, err := s.Register(r.each, "dr-a", &messages.RegisterRequest{Session: session, MachineID: "m", BootID: "b", Cluster: "c.test"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteOutbox(r.each, []outbox.Row{done.Event}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Heartbeat(r.each, "dr-a", &messages.HeartbeatRequest{Session: session, DroneTimeMS: 1000, Ready: true}); err != nil {
		t.Fatal(err)
	}
	js := natstest.JetStream(t, natstest.Conn(t, r.url))
	natstest.Insist(t, func() error { return bus.EnsureStreams(r.each, js, bus.Streams{}) })
	r.js = js
	return r
}

// stopTime has nothing in the outbox fall due by time, only when it is said to be due: else all
// that takes longer than some seconds is published by whoever looks, once more, as it may be.
// It gives a way to the database.
func (r *rig) stopTime() *pgxpool.Pool {
	r.t.Helper()
	raw, err := pgxpool.New(r.each, r.dsn)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(raw.Close)
	if _, err := raw.Exec(r.each, `
create function not_by_time() returns trigger language plpgsql as $$ begin new.due_at := 'infinity'; return new; end $$;
create trigger not_by_time before insert or update on outbox for each row when (new.due_at > now()) execute function not_by_time();`); err != nil {
		r.t.Fatal(err)
	}
	return raw
}

// relay runs a relay that publishes over a URL, until stop is called or the test ends.
func (r *rig) relay(url string) (relay *outbox.Relay, stop func()) {
	r.t.Helper()
	p, err := bus.NewPublisher(natstest.Conn(r.t, url))
	if err != nil {
		r.t.Fatal(err)
	}
	return r.relayOver(p)
}

func (r *rig) relayOver(p outbox.Publisher) (relay *outbox.Relay, stop func()) {
	r.t.Helper()
	relay = outbox.NewRelay(outbox.Config{
		Store: r.Store, Publisher: p, Deadlines: r.Terms().Deadlines, Open: new(lease.Keys).Open, HealEvery: time.Hour, Log: testkit.Logger(r.t),
	})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { relay.Run(ctx) })
	stop = func() { cancel(); wg.Wait() }
	r.t.Cleanup(stop)
	return relay, stop
}

func (r *rig) connect(key, id string) []outbox.Row {
	r.t.Helper()
	_, rows, err := r.Connect(r.each, []lease.Want{want(key, id)})
	if err != nil || len(rows) != 1 {
		r.t.Fatalf("connect: rows %v, %v", rows, err)
	}
	return rows
}

func (r *rig) report(id string, statuses ...messages.Status) []outbox.Row {
	r.t.Helper()
	var changes []store.Change
	for _, s := range statuses {
		changes = append(changes, store.Change{BackendID: id, Event: lifecycle.Reported{State: messages.State{Status: s}}})
	}
	rows, foreign, err := r.Transition(r.each, nil, changes)
	if err != nil || len(foreign) > 0 {
		r.t.Fatalf("report: foreign %v, %v", foreign, err)
	}
	return rows
}

// said is what a stream holds, message by message.
type said struct {
	id string
	at time.Time // when the server stored it
	jetstream.RawStreamMsg
}

func (r *rig) stream(name string) (all []said) {
	r.t.Helper()
	s, err := r.js.Stream(r.each, name)
	if err != nil {
		r.t.Fatal(err)
	}
	state := s.CachedInfo().State
	for seq := state.FirstSeq; state.Msgs > 0 && seq <= state.LastSeq; seq++ {
		msg, err := s.GetMsg(r.each, seq)
		if err != nil {
			r.t.Fatal(err)
		}
		all = append(all, said{msg.Header.Get(messages.HeaderMessageID), msg.Time, *msg})
	}
	return all
}

func ids(all []said) (list []string) {
	for _, m := range all {
		list = append(list, m.id)
	}
	return list
}

// left is what is on record, not taken away from anybody: kind and backend.
func (r *rig) left() (list []string) {
	r.t.Helper()
	rows, err := r.ClaimOutbox(r.each, true, 1000)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, row := range rows {
		list = append(list, fmt.Sprintf("%s %s %d", row.Kind, row.BackendID, row.Status))
	}
	return list
}
