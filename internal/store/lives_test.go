package store_test

import (
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/internal/worker"
	"github.com/jetway-project/jetway/messages"
)

const (
	askers   = 128  // connects at the same moment
	perWord  = 128  // backends in one report
	openDocs = 200  // backends that live on
	livesKey = "k-" // of those that come and go, each its own
)

// tables are all that there are.
var tables = []string{"lease", "backend", "token", "outbox", "drone"}

// nation is two workers, and a drone that runs nothing, in a world where what has ended
// is soon a day old.
type nation struct {
	*db
	nc    *nats.Conn
	js    jetstream.JetStream
	open  []string
	clock int64
	heard time.Time
	// The statements of connects, prepared at the start.
	spawn, join *explainer
}

// vitals are what must stay flat, by name.
type vitals map[string]int

var livesFlag = flag.Int("lives", 0, "how many backends live and end in TestI8ManyLivesLeaveNothingBehind; 0: 500, or 20,000 in full size")

// Backends live and end, and everything is as it was after half of them, by when tables have
// been as full of dead rows as they ever are: tables and their indexes, streams, the workers'
// memory (not under the race detector), and what a connect costs, in pages that its statement
// touches. `make soak` has more of them.
//
// No other test runs beside it, whose memory and goroutines would be counted too.
func TestI8ManyLivesLeaveNothingBehind(t *testing.T) { //nolint:paralleltest // see above
	const rounds = 10
	lives := cmp.Or(*livesFlag, testkit.Sized(t, 500, 20_000)) / rounds
	n := newNation(t, lives)
	var after []vitals
	for round := range rounds {
		n.live(round*lives, lives)
		n.quiet()
		after = append(after, n.vitals())
		t.Logf("after %d: %v", (round+1)*lives, after[round])
	}
	for name := range after[0] {
		was, is := least(name, after[rounds/2-1:rounds/2+2]), least(name, after[rounds-3:])
		// A few pages or goroutines more or less are no trend, nor are the buffers of some 8 MiB that the NATS server keeps.
		most := was + was/4 + map[string]int{"heap kB": 16 << 10, "goroutines": 20, "spawn pages": 10, "join pages": 10}[name]
		if strings.HasSuffix(name, " kB") && name != "heap kB" {
			most += 256
		}
		if is > most {
			t.Errorf("%s: %d after %d lives, and %d after %d", name, was, rounds/2*lives, is, rounds*lives)
		}
	}
}

// least is the least of something in some rounds: what grows does so there too, what happens to be
// more at one moment does not count.
func least(name string, rounds []vitals) int {
	n := rounds[0][name]
	for _, v := range rounds {
		n = min(n, v[name])
	}
	return n
}

func newNation(t *testing.T, lives int) *nation {
	t.Helper()
	d := newRunningDB(t)
	if err := d.SetLeaseTTL(t.Context(), lease.Terms{TTL: time.Hour}); err != nil { // no lease is to expire
		t.Fatal(err)
	}
	d.Store = openWith(t, d.raw.Config().ConnString(), lease.Terms{TTL: time.Hour})
	server := natstest.Server(t)
	n := &nation{db: d, nc: natstest.Conn(t, server.URL()), clock: 1000}
	n.js = natstest.JetStream(t, n.nc)
	// Files stay as long as they ever were, so that their size says whether their space is used again.
	for _, table := range tables {
		d.exec(`alter table ` + table + ` set (vacuum_truncate = off)`)
	}
	// Released leases are a day old at once, and every other token expires soon.
	d.exec(`
create function release_earlier() returns trigger language plpgsql as $$
begin
    new.released_at := new.released_at - interval '1 day';
    new.fencing_token := new.fencing_token - 86400000;
    return new;
end $$;
create trigger earlier before update on lease for each row
    when (old.released_at is null and new.released_at is not null) execute function release_earlier();
create function expire_earlier() returns trigger language plpgsql as $$
begin new.expires_at := now() + interval '200 ms'; return new; end $$;
create trigger earlier before insert on token for each row
    when (get_byte(new.hash, 0) % 2 = 0) execute function expire_earlier();`)
	n.spawn, n.join = newExplainer(t, d, store.SpawnSQL, 34), newExplainer(t, d, store.JoinSQL, 10)
	for _, name := range []string{"wo-a", "wo-b"} {
		n.work(name, server.URL())
	}
	n.shortenStreams(lives)
	n.ask(messages.RegisterSubject("dr-a"), registration("dr-a", session), nil)
	n.take()
	n.heartbeat()
	for i := range openDocs {
		n.open = append(n.open, n.connect(fmt.Sprintf("open-%d", i)))
	}
	n.report(messages.Ready, n.open...)
	return n
}

// work runs a worker until the test ends.
func (n *nation) work(name, url string) {
	n.t.Helper()
	ready, ended := make(chan struct{}), make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	conn := natstest.Conn(n.t, url)
	go func() {
		ended <- worker.Run(ctx, worker.Config{
			Name: name, DefaultCluster: cluster, OnReady: func() { close(ready) },
			// Less than testkit's, for the test keeps it all in the memory that is looked at.
			Log:    slog.New(slog.NewTextHandler(n.t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
			Retain: 200 * time.Millisecond, RetainEvery: 50 * time.Millisecond,
		}, conn, n.Store)
	}()
	n.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			n.t.Error(err)
		}
	})
	testkit.Receive(n.t, ready, "the worker is ready")
}

// shortenStreams makes a day pass sooner in the stream of events too: it is full after about
// as many lives as a round has.
func (n *nation) shortenStreams(lives int) {
	n.t.Helper()
	stream, err := n.js.Stream(n.t.Context(), messages.StreamEvents)
	if err != nil {
		n.t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	cfg.MaxBytes, cfg.Duplicates = int64(lives)*800, time.Second
	if _, err := n.js.UpdateStream(n.t.Context(), cfg); err != nil {
		n.t.Fatal(err)
	}
}

// take takes the drone's actions and does nothing about them.
func (n *nation) take() {
	n.t.Helper()
	_, err := n.nc.Subscribe(messages.DeliverSubject("dr-a"), func(msg *nats.Msg) {
		if msg.Header.Get("Status") == "" { // else a heartbeat
			_ = msg.Ack()
		}
	})
	if err != nil {
		n.t.Fatal(err)
	}
}

func (n *nation) ask(subject string, request, response any) {
	n.t.Helper()
	msg, err := n.nc.RequestMsg(&nats.Msg{
		Subject: subject, Data: messages.Encode(request), Header: nats.Header{messages.HeaderTimeout: {testkit.Patience.String()}},
	}, testkit.Patience)
	if err == nil && msg.Header.Get("Nats-Service-Error") != "" {
		err = fmt.Errorf("%s", msg.Data)
	}
	if err == nil && response != nil {
		err = json.Unmarshal(msg.Data, response)
	}
	if err != nil {
		n.t.Errorf("%s: %v", subject, err)
	}
}

func (n *nation) connect(key string) string {
	var got messages.ConnectResponse
	n.ask(messages.SubjectConnect, messages.ConnectRequest{
		Key: &messages.Key{Name: key}, SpawnConfig: &messages.SpawnConfig{Executable: json.RawMessage(`{}`)},
	}, &got)
	return got.BackendID
}

// heartbeat keeps the drone and what it runs alive, when it is time.
func (n *nation) heartbeat() {
	if time.Since(n.heard) < 5*time.Second {
		return
	}
	n.heard, n.clock = time.Now(), n.clock+1
	n.ask(messages.HeartbeatSubject("dr-a"), messages.HeartbeatRequest{Session: session, DroneTimeMS: n.clock, Ready: true}, nil)
}

func (n *nation) report(status messages.Status, backends ...string) {
	var reports []messages.Report
	for _, id := range backends {
		r := messages.Report{BackendID: id, State: messages.State{Status: status}}
		if status == messages.Ready {
			r.Address = "127.0.0.1:4000"
		}
		reports = append(reports, r)
	}
	n.ask(messages.ReportSubject("dr-a"), messages.ReportRequest{Session: session, Reports: reports}, nil)
}

// live has backends live, from their connect to their end.
func (n *nation) live(from, lives int) {
	keys, born := make(chan int), make(chan string, perWord)
	var asking sync.WaitGroup
	for range askers {
		asking.Go(func() {
			for i := range keys {
				born <- n.connect(fmt.Sprint(livesKey, i))
			}
		})
	}
	go func() {
		for i := range lives {
			keys <- from + i
		}
		close(keys)
		asking.Wait()
		close(born)
	}()
	var batch []string
	say := func() {
		n.heartbeat()
		n.report(messages.Ready, batch...)
		n.report(messages.Terminated, batch...)
		batch = batch[:0]
	}
	for id := range born {
		if batch = append(batch, id); len(batch) == perWord || len(born) == 0 {
			say()
		}
	}
	if len(batch) > 0 {
		say()
	}
}

// quiet waits until all that has ended is deleted, and vacuums as Postgres does each minute.
func (n *nation) quiet() {
	n.t.Helper()
	testkit.Eventually(n.t, "all that has ended is deleted", func() bool {
		n.heartbeat()
		return one[int](n.db, `select (select count(*) from backend) + (select count(*) from lease)`) == 2*openDocs &&
			one[int](n.db, `select (select count(*) from outbox) + (select count(*) from token t where not exists
				(select from backend b where b.id = t.backend_id))`) == 0
	})
	n.exec(`vacuum analyze`)
}

func (n *nation) vitals() vitals {
	n.t.Helper()
	v := make(vitals)
	for _, table := range tables {
		v[table+" rows"] = one[int](n.db, `select count(*) from `+table)
		v[table+" kB"] = one[int](n.db, `select pg_total_relation_size($1::text::regclass) / 1024`, table)
	}
	for _, name := range []string{messages.StreamActions, messages.StreamEvents, messages.StreamLogs} {
		stream, err := n.js.Stream(n.t.Context(), name)
		if err != nil {
			n.t.Fatal(err)
		}
		info, err := stream.Info(n.t.Context(), jetstream.WithSubjectFilter(">"))
		if err != nil {
			n.t.Fatal(err)
		}
		v[name+" kB"], v[name+" subjects"] = int(info.State.Bytes/1024), len(info.State.Subjects)
	}
	if !testkit.RaceDetector {
		runtime.GC()
		runtime.GC() // pools keep what they have over one
		var mem runtime.MemStats
		runtime.ReadMemStats(&mem)
		v["heap kB"] = int(mem.HeapAlloc / 1024)
	}
	v["goroutines"] = runtime.NumGoroutine()
	v["spawn pages"] = n.pages(n.spawn, spawnArgs("k-new"))
	v["join pages"] = n.pages(n.join, joinArgs("open-1"))
	return v
}

// pages are those that a statement touches; what it did is undone.
func (n *nation) pages(e *explainer, args []string) int {
	e.exec("begin")
	defer e.exec("rollback")
	p := e.explain(args...)
	var wrote bool
	p.walk(func(node *plan) {
		wrote = wrote || (node.Node == "ModifyTable" && node.Table == "token" && node.Hit > 0)
	})
	if !wrote {
		n.t.Errorf("the connect that is measured made no token:\n%s", p)
	}
	return p.Hit + p.Read
}

// spawnArgs are those of a spawn with its one token, as the store gives them.
func spawnArgs(key string) []string {
	return []string{
		`'{""}'`, `'{` + key + `}'`, `'{""}'`,
		`'{b-new}'`, `'{t}'`, `'{1}'`, `'{""}'`, `'{""}'`, `'{0}'`, `'{0}'`, `'{"{}"}'`, `'{""}'`,
		`'{1}'`, `'{""}'`, `array['\x01'::bytea]`, `'{u}'`, `'{"{}"}'`, `'{secret}'`, `'{3600}'`,
		`'{dr-a}'`, `'{` + session + `}'`, `60`, `60`, `'{f}'`, `'{room}'`, `'{""}'`, `'{""}'`, `'{0}'`, `'{0}'`, `'{f}'`, `'{0}'`, `'{""}'`, `'{f}'`, `'{""}'`,
	}
}

// joinArgs are those of a join.
func joinArgs(key string) []string {
	return []string{
		`'{""}'`, `'{` + key + `}'`,
		`'{1}'`, `'{""}'`, `array['\x01'::bytea]`, `'{u}'`, `'{"{}"}'`, `'{secret}'`, `'{3600}'`, `'infinity'`,
	}
}
