package store_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/internal/outbox"
	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/messages"
)

// kept is for how long these tests keep what has ended.
const kept = time.Hour

// retain deletes until there is nothing more to delete, and gives the sums.
func (d *db) retain(retain time.Duration) (sum store.Deleted) {
	d.t.Helper()
	for full := true; full; {
		got, err := d.Retain(context.Background(), retain)
		if err != nil {
			d.t.Fatal(err)
		}
		sum.Tokens, sum.Backends = sum.Tokens+got.Tokens, sum.Backends+got.Backends
		sum.Leases, sum.Outbox = sum.Leases+got.Leases, sum.Outbox+got.Outbox
		sum.Drones = append(sum.Drones, got.Drones...)
		full = got.Full
	}
	return sum
}

// end spawns a backend for a key, has it end, its states published, and all of that have happened a while ago.
func (d *db) end(key, id string, ago time.Duration) {
	d.t.Helper()
	d.spawn(key, id, "dr-a")
	d.transition(reported(id, messages.Terminated))
	d.exec(`delete from outbox where backend_id = $1`, id)
	d.exec(`update backend set ended_at = ended_at - $2::interval where id = $1`, id, ago)
	d.exec(`update lease set released_at = released_at - $2::interval, fencing_token = fencing_token - extract(epoch from $2::interval)::int8 * 1000
		where backend_id = $1`, id, ago)
}

// left are the values of a column, in order.
func (d *db) left(column, from string) []string {
	d.t.Helper()
	return one[[]string](d, `select coalesce(array_agg(`+column+`::text order by `+column+`), '{}') from `+from)
}

func (d *db) wantLeft(column, from string, want ...string) {
	d.t.Helper()
	if got := d.left(column, from); !slices.Equal(got, want) {
		d.t.Errorf("%s of %s: %q are left, want %q", column, from, got, want)
	}
}

func TestI8RetentionDeletesWhatIsPastItsTimeAndNothingElse(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	d.end("old", "b-old", kept+time.Second)
	d.end("young", "b-young", kept-time.Minute)
	d.end("ancient", "b-ancient", 25*time.Hour)
	d.end("unsaid", "b-unsaid", 25*time.Hour)
	d.spawn("live", "b-live", "dr-a")
	d.exec(`insert into outbox (id, kind, backend_id, drone, status) values (nextval('outbox_id'), 'state', 'b-unsaid', 'dr-a', 70)`)
	d.exec(`update token set expires_at = now() where backend_id = 'b-young'`)
	d.exec(`update backend set created_at = created_at - interval '1 year', changed_at = changed_at - interval '1 year' where id = 'b-live'`)

	d.retain(kept)
	d.wantLeft("id", "backend", "b-live", "b-unsaid", "b-young")
	d.wantLeft("backend_id", "token", "b-live", "b-unsaid")
	d.wantLeft("name", "lease", "live", "old", "young") // released ones for a day
	d.wantLeft("backend_id", "outbox where kind <> 'drone'", "b-live", "b-unsaid")
	if again := d.retain(kept); again.Any() {
		t.Errorf("the next round deletes %+v", again)
	}
	d.exec(`delete from outbox where backend_id = 'b-unsaid'`)
	d.retain(kept)
	d.wantLeft("id", "backend", "b-live", "b-young")
	d.wantLeft("backend_id", "token", "b-live")

	// Longer than a day means longer for leases too.
	d.exec(`update lease set released_at = released_at - interval '24 hours' where name = 'old'`)
	d.retain(48 * time.Hour)
	d.wantLeft("name", "lease", "live", "old", "young")
	d.retain(kept)
	d.wantLeft("name", "lease", "live", "young")
	if got := d.status("b-live"); got.Status != messages.Scheduled || got.FencingToken == 0 {
		t.Errorf("the one that lives is %+v", got)
	}
}

func TestI8BackendWithMoreTokensThanABatchGoesAfterItsTokens(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	d.end("k", "b-1", 2*kept)
	d.end("k-2", "b-2", kept-time.Minute)
	d.exec(`insert into token (hash, backend_id, username, auth, secret, expires_at)
		select sha256(i::text::bytea), 'b-1', 'u', '{}', '', now() + interval '1 hour' from generate_series(1, 1700) i`)
	if got, err := d.Retain(t.Context(), kept); err != nil || got.Backends != 0 || got.Tokens != 500 || !got.Full {
		t.Errorf("the first batch: %+v, %v", got, err)
	}
	if got := d.retain(kept); got.Backends != 1 || got.Tokens != 1201 {
		t.Errorf("all others: %+v", got)
	}
	d.wantLeft("backend_id", "token", "b-2")
}

// A key's next fencing token is greater than those of rows that are gone.
func TestI2FencingTokensRiseOverTheDeletionOfALease(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	first := d.spawn("k", "b-1", "dr-a")
	d.transition(reported("b-1", messages.Terminated))
	d.exec(`update lease set released_at = released_at - interval '25 hours'`)
	d.exec(`select setval('fencing_token', $1)`, first)
	// As after acquisitions by statements that drew their numbers early and waited.
	d.exec(`update lease set fencing_token = $1`, first+2)
	d.retain(kept)
	d.wantLeft("name", "lease", "k")
	d.exec(`select nextval('fencing_token'), nextval('fencing_token')`)
	d.retain(kept)
	d.wantLeft("name", "lease")
	if token := d.spawn("k", "b-2", "dr-a"); token <= first+2 {
		t.Errorf("the token is %d after %d", token, first+2)
	}
}

// An id may be used again once its backend is deleted, also while the earlier one's lease is still kept.
func TestIDThatIsUsedAgainHasNothingOfTheEarlierBackend(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	d.end("before", "b-1", 2*kept)
	d.retain(kept)
	d.wantLeft("name", "lease", "before")
	next := want("after", "b-1", "dr-a")
	next.Tokens[0].Hash = lease.HashToken("another")
	d.connect(next)
	token := one[int64](d, `select fencing_token from lease where name = 'after'`)
	rows, err := d.ClaimOutbox(t.Context(), true, 100)
	if err != nil {
		t.Fatal(err)
	}
	spawn := slices.IndexFunc(rows, func(r outbox.Row) bool { return r.Kind == outbox.KindSpawn })
	if spawn < 0 || rows[spawn].FencingToken != token {
		t.Errorf("to be published: %+v, want a spawn with the token %d", rows, token)
	}
	if got := d.status("b-1"); got.FencingToken != token || got.Key.Name != "after" {
		t.Errorf("it is %+v, want the token %d", got, token)
	}
	if routes, err := d.Routes(t.Context(), []string{"token-of-b-1", "another"}); err != nil || routes[0] != nil || routes[1] == nil {
		t.Errorf("the earlier and the new token lead to %+v, %v", routes, err)
	}
	d.transition(reported("b-1", messages.Terminated))
	if got := d.status("b-1"); got.FencingToken != token {
		t.Errorf("once it has ended it is %+v, want the token %d", got, token)
	}
}

func TestI8DronesThatAreLostForLongAreForgotten(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	for _, name := range []string{"dr-a", "dr-here", "dr-lately", "dr-long", "dr-needed", "dr-back"} {
		d.drone(name)
	}
	d.spawn("k", "b-1", "dr-needed")
	for _, name := range []string{"dr-lately", "dr-long", "dr-needed", "dr-back"} {
		d.silence(name, 2*time.Minute)
	}
	d.lostDrones()
	d.exec(`update backend set status = 50, ended_at = null`) // as where more were lost than one sweep ends
	d.exec(`update drone set lost_at = lost_at - $1::interval where name in ('dr-long', 'dr-needed', 'dr-back')`, kept)
	d.register("dr-back", "s-2")
	if got := d.retain(kept).Drones; !slices.Equal(got, []string{"dr-long"}) {
		t.Errorf("forgotten: %v", got)
	}
	d.wantLeft("name", "drone", "dr-a", "dr-back", "dr-here", "dr-lately", "dr-needed")
	heard, err := d.Heartbeat(t.Context(), "dr-long", &messages.HeartbeatRequest{Session: session, Ready: true})
	if err != nil || heard.Known {
		t.Errorf("the forgotten one's heartbeat: %+v, %v", heard, err)
	}
	d.register("dr-long", "s-2")
	w := want("k-2", "b-2", "dr-long")
	w.Spawn.Session = "s-2"
	if got, _ := d.connect(w); got[0].Result != lease.Acquired {
		t.Errorf("a spawn on the one that came back: %+v", got[0])
	}
}

func TestI8OutboxRowsThatNothingTakesAreDeletedAndLiveOnesNever(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	d.spawn("live", "b-live", "dr-a")
	d.end("over", "b-over", time.Minute)
	for _, row := range []string{"b-over", "b-live", "b-unknown", "b-day"} {
		d.exec(`insert into outbox (id, kind, backend_id, drone, status) values (nextval('outbox_id'), 'state', $1, 'dr-a', 70)`, row)
	}
	d.exec(`update outbox set created_at = now() - interval '8 days' where backend_id <> 'b-day'`)
	d.exec(`update outbox set created_at = now() - interval '6 days' where backend_id = 'b-day'`)
	if got := d.retain(10 * 24 * time.Hour); got.Outbox != 0 {
		t.Errorf("deleted %d rows too early", got.Outbox)
	}
	d.retain(kept)
	d.wantLeft("backend_id", "(select distinct backend_id from outbox) o", "b-day", "b-live")
}

// I3: a row that never gets out must not keep others from it.
func TestI3TriesOfARowAreNotCountedForEver(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	d.spawn("k", "b-1", "dr-a")
	d.exec(`update outbox set attempts = 32767, due_at = now()`)
	rows, err := d.ClaimOutbox(t.Context(), false, 100)
	if err != nil || len(rows) == 0 {
		t.Errorf("claimed %v, %v", rows, err)
	}
}

// Many workers at once, over keys that are being connected to: all goes once, and nobody fails.
func TestI8WorkersThatRetainAtOnceDoNotStepOnEachOther(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	const n = 4000
	d.exec(`insert into backend (id, namespace, name, tag, cluster, pool, drone, session, status, ended_at)
		select 'e-' || i, '', 'k-' || i, '', 'c', '', 'dr-a', 's-1', 70, now() - interval '2 days' from generate_series(1, $1) i`, n)
	d.exec(`insert into lease (namespace, name, tag, backend_id, fencing_token, released_at)
		select '', name, '', id, 1, ended_at from backend`)
	d.exec(`insert into token (hash, backend_id, username, auth, secret, expires_at)
		select sha256(id::bytea), id, 'u', '{}', '', now() + interval '1 hour' - (length(id) % 2) * interval '2 hours' from backend`)
	var mu sync.Mutex
	var sum store.Deleted
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for idle := 0; idle < 3; {
				got, err := d.Retain(context.Background(), kept)
				if err != nil {
					t.Error(err)
					return
				}
				if !got.Any() {
					idle++
				}
				mu.Lock()
				sum.Tokens, sum.Backends, sum.Leases = sum.Tokens+got.Tokens, sum.Backends+got.Backends, sum.Leases+got.Leases
				mu.Unlock()
			}
		})
	}
	const taken = 300
	for i := 1; i <= taken; i++ { // while their rows are being deleted
		d.spawn(fmt.Sprintf("k-%d", i*13), fmt.Sprintf("b-%d", i), "dr-a")
	}
	wg.Wait()
	if sum.Tokens != n || sum.Backends != n || sum.Leases > n || sum.Leases < n-taken {
		t.Errorf("deleted %+v, want %d of each, but for up to %d leases that were taken again", sum, n, taken)
	}
	if live := one[int](d, `select count(*) from lease l join backend b on b.id = l.backend_id where b.ended_at is null and l.released_at is null`); live != taken {
		t.Errorf("%d hold their leases, want %d", live, taken)
	}
}
