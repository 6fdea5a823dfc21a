package store_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/internal/lifecycle"
	"github.com/jetway-project/jetway/internal/outbox"
	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// The package's word: no two transactions wait for each other. All that drones, proxies and workers say of the same
// backends, in any order, many at once: the database has noted no deadlock.
// Found by loops of reports against heartbeats, keepalives and registrations, and of those against Lost.
func TestNothingThatIsSaidAtOnceDeadlocks(t *testing.T) {
	t.Parallel()
	d := newRunningDB(t)
	backends, turns := testkit.Sized(t, 100, 640), testkit.Sized(t, 8, 60)
	// The session lives however long it takes on a slow machine.
	if err := d.SetLeaseTTL(t.Context(), lease.Terms{TTL: time.Hour}); err != nil {
		t.Fatal(err)
	}
	d.raw = raw(t, d.dsn).raw
	d.Close() // what is noted of a connection counts once it has ended
	noted := func() int {
		return one[int](d, `select deadlocks from pg_stat_database where datname = current_database()`)
	}
	before := noted()
	st, err := store.Open(t.Context(), store.Config{DSN: d.dsn, MaxConns: 16, Terms: lease.DefaultTerms})
	if err != nil {
		t.Fatal(err)
	}
	closed := sync.OnceFunc(st.Close)
	t.Cleanup(closed)
	d.Store = st
	if err := d.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.drone("dr-a")
	d.drone("dr-b")
	ids := make([]string, backends)
	for i := range ids {
		ids[i] = fmt.Sprintf("b-%d", i)
	}
	var wants []lease.Want
	for _, id := range ids {
		wants = append(wants, want("k-"+id, id, "dr-a"))
	}
	ctx := context.Background()
	spawn := func() {
		for i := range wants {
			w := &wants[i]
			w.Spawn.MaxIdleSeconds, w.Tokens = 1, nil
		}
		d.connect(wants...)
	}
	spawn()
	some := func() []string {
		list := append([]string(nil), ids...)
		rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		return list[:1+rand.IntN(len(list))]
	}
	idle := func(n int) []int64 {
		list := make([]int64, n)
		for i := range list {
			list[i] = int64(rand.IntN(2) * 500)
		}
		return list
	}
	changes := func(event func() lifecycle.Event) (list []store.Change) {
		for _, id := range some() {
			list = append(list, store.Change{BackendID: id, Event: event()})
		}
		return list
	}
	run := func(what string, one func() error) func() {
		return func() {
			for range turns {
				if err := one(); err != nil {
					t.Errorf("%s: %v", what, err)
					return
				}
			}
		}
	}
	transition := func(event func() lifecycle.Event) func() error {
		return func() error {
			_, _, err := d.Transition(ctx, nil, changes(event))
			return err
		}
	}
	report := transition(func() lifecycle.Event {
		return lifecycle.Reported{State: messages.State{Status: messages.Statuses[1+rand.IntN(len(messages.Statuses)-2)]}}
	})
	keepalive := func(proxy string) func() error {
		return func() error { list := some(); return d.Keepalive(ctx, proxy, list, idle(len(list))) }
	}
	var wg sync.WaitGroup
	for what, one := range map[string]func() error{
		"report": report, "report too": report,
		"ask to end": transition(func() lifecycle.Event {
			return lifecycle.TerminateAsked{Hard: rand.IntN(2) == 0, Reason: messages.ReasonExternal}
		}),
		"lost":                        transition(func() lifecycle.Event { return lifecycle.Lost{} }),
		"refused":                     transition(func() lifecycle.Event { return lifecycle.Refused{State: messages.State{Status: messages.Terminated}} }),
		"keepalive":                   keepalive("px-a"),
		"keepalive of the same proxy": keepalive("px-a"),
		"keepalive of another":        keepalive("px-b"),
		"heartbeat": func() error {
			_, err := d.Heartbeat(ctx, "dr-a", &messages.HeartbeatRequest{Session: session, Ready: true})
			return err
		},
		"registration": func() error {
			_, err := d.Register(ctx, "dr-a", registration("dr-a", session, some()...))
			return err
		},
		"connect": func() error {
			first := rand.IntN(len(wants))
			_, _, err := d.Connect(ctx, wants[first:min(first+64, len(wants))])
			return err
		},
		"sweep": func() error {
			if _, err := d.raw.Exec(ctx, `update backend set due_at = now() where id = any(array(
				select id from backend where ended_at is null order by id for no key update skip locked))`); err != nil {
				return err
			}
			_, err := d.Sweep(ctx, startWithin)
			return err
		},
		"seal":   func() error { return d.Seal(ctx, some()...) },
		"expire": func() error { _, err := d.Expire(ctx); return err },
		"relay": func() error {
			rows, err := d.ClaimOutbox(ctx, rand.IntN(3) == 0, 50)
			if err != nil {
				return err
			}
			// It takes states off the record; a report does so with actions.
			return d.DeleteOutbox(ctx, slices.DeleteFunc(rows, func(r outbox.Row) bool { return r.Kind != outbox.KindState && r.Kind != outbox.KindDrone }))
		},
		"drain": func() error {
			_, _, _, err := d.Drain(ctx, &messages.DrainRequest{Drone: "dr-b"}, rand.IntN(2) == 0)
			return err
		},
	} {
		wg.Go(run(what, one))
	}
	wg.Wait()
	closed()
	d.raw.Reset()
	testkit.Eventually(t, "the connections end", func() bool {
		return one[int](d, `select count(*) from pg_stat_activity where datname = current_database() and application_name <> 'testkit' and pid <> pg_backend_pid()`) == 0
	})
	if n := noted() - before; n != 0 {
		t.Errorf("the database noted %d deadlocks:\n%s", n, d.deadlocks())
	}
}

// deadlocks is what the server's log says of them: which statements waited for each other.
func (d *db) deadlocks() string {
	log, err := os.ReadFile(one[string](d, `show data_directory`) + ".log")
	if err != nil {
		return err.Error()
	}
	var said strings.Builder
	for _, part := range strings.SplitAfter(string(log), "ERROR:  ") {
		if strings.HasPrefix(part, "deadlock detected") {
			said.WriteString(part)
		}
	}
	return said.String()
}
