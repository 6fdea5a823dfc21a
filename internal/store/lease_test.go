package store_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/internal/outbox"
	"github.com/jetway-project/jetway/messages"
)

func TestI2FencingTokensRiseOverReleaseTakeoverAndASequenceSetBack(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	var last int64
	for i := range 12 {
		if i%4 >= 2 {
			d.exec(`select setval('fencing_token', 1)`)
		}
		id := fmt.Sprintf("b-%d", i)
		token := d.spawn("k", id, "dr-a")
		if token <= last {
			t.Fatalf("acquisition %d got the token %d after %d", i, token, last)
		}
		if stored := d.status(id).FencingToken; stored != token {
			t.Fatalf("the lease says %d, the action %d", stored, token)
		}
		last = token
		if i%2 == 0 {
			d.expire(id)
		} else {
			d.transition(ends(id, messages.Soft, messages.ReasonExternal))
		}
	}
}

// A statement that drew its number and then waited for one that drew a later one.
func TestI2FencingTokenOfAStatementThatWaited(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	d.spawn("k", "b-1", "dr-a")
	d.transition(reported("b-1", messages.Terminated))

	tx, err := d.raw.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	var other int64
	err = tx.QueryRow(t.Context(), `update lease set fencing_token = fencing_token + 1000 where name = 'k' returning fencing_token`).Scan(&other)
	if err != nil {
		t.Fatal(err)
	}
	token := make(chan int64)
	go func() {
		_, rows, err := d.Connect(t.Context(), []lease.Want{want("k", "b-2", "dr-a")})
		if err != nil || len(rows) == 0 {
			t.Error("connect:", len(rows), err)
			token <- 0
			return
		}
		token <- rows[len(rows)-1].FencingToken
	}()
	d.blocked(1)
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := <-token; got <= other {
		t.Errorf("the one that waited got the token %d, the other one had %d", got, other)
	}
}

func TestI1ExpiredKeyIsTakenOver(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	d.drone("dr-b")
	d.spawn("k", "b-1", "dr-a")
	d.transition(reported("b-1", messages.Ready))

	got, rows := d.connect(want("k", "b-2", "dr-b"))
	if got[0].Result != lease.Held || got[0].BackendID != "b-1" || len(rows) != 0 {
		t.Fatalf("an unexpired lease: %+v, rows %v", got[0], rows)
	}
	d.expire("b-1")
	late := want("k", "b-2", "dr-b")
	late.Tokens[0].Hash = lease.HashToken("another") // a token is never made twice
	got, rows = d.connect(late)
	if got[0].Result != lease.Acquired || got[0].BackendID != "b-2" || got[0].TookOver != "b-1" {
		t.Fatalf("an expired lease: %+v", got[0])
	}
	var story []string
	for _, r := range rows {
		story = append(story, fmt.Sprintf("%s %s %s", r.Kind, r.BackendID, r.Drone))
	}
	// Its state ready was never published.
	if want := []string{"state b-1 dr-a", "state b-1 dr-a", "terminate b-1 dr-a", "spawn b-2 dr-b"}; !slices.Equal(story, want) {
		t.Errorf("to publish: %v, want %v", story, want)
	}
	if rows[1].LastStatus != messages.Ready || rows[1].Status != messages.Terminated {
		t.Errorf("the lost one's state is %s after %s", rows[1].Status, rows[1].LastStatus)
	}
	old := d.status("b-1")
	if old.Status != messages.Terminated || old.Reason != messages.ReasonLost || old.LastStatus != messages.Ready || old.FencingToken == 0 {
		t.Errorf("the old backend is %+v", old)
	}
	if renewed := d.renew("dr-a", session, "b-1", "b-2"); len(renewed) != 0 {
		t.Errorf("the old drone renewed %v", renewed)
	}
	if renewed := d.renew("dr-b", session, "b-1", "b-2"); !slices.Equal(renewed, []string{"b-2"}) {
		t.Errorf("the new drone renewed %v, want b-2", renewed)
	}
	// What is on record is what was given to the relay.
	again, err := d.ClaimOutbox(t.Context(), true, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		if r.ID != 0 && !slices.ContainsFunc(again, func(o outbox.Row) bool { return o.ID == r.ID && o.Status == r.Status }) {
			t.Errorf("row %d is not in the outbox", r.ID)
		}
	}
}

// I1: a renewal needs the session unsealed and alive, on its row as it is when it is locked;
// nothing moves the lease's end back.
func TestI1OnlyAnUnsealedLivingSessionIsRenewed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		drone, session, change string
		renewed                bool
	}{
		"the holder":            {"dr-a", session, ``, true},
		"another session":       {"dr-a", "s-0", ``, false},
		"another drone":         {"dr-none", session, ``, false},
		"an expired one":        {"dr-a", session, `update session set expires_at = now() - interval '1 second'`, false},
		"a sealed one":          {"dr-a", session, `update session set sealed_at = now()`, false},
		"one that was replaced": {"dr-a", session, `update drone set session = 's-2'`, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDB(t)
			d.drone("dr-a")
			if c.change != "" {
				d.exec(c.change)
			}
			before := one[string](d, `select expires_at::text from session`)
			d.tick(time.Millisecond)
			heard, err := d.Heartbeat(t.Context(), c.drone, &messages.HeartbeatRequest{Session: c.session, Ready: true})
			if err != nil || heard.Known != c.renewed {
				t.Errorf("%+v, %v", heard, err)
			}
			if after := one[string](d, `select expires_at::text from session`); (after != before) != c.renewed {
				t.Errorf("the lease lasted until %s, now %s", before, after)
			}
		})
	}
}

// I1: a shorter time to live moves no lease's end back, so a drone may go on trusting
// the later deadline that it was told. Found by lowering --lease-ttl on a running system.
func TestI1NothingMovesTheEndOfALeaseBack(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	before := one[string](d, `select expires_at::text from session`)
	if err := d.SetLeaseTTL(t.Context(), lease.Terms{TTL: 20 * time.Second}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Look(t.Context()); err != nil || d.Terms().TTL != 20*time.Second {
		t.Fatalf("the terms are %v, %v", d.Terms(), err)
	}
	d.renew("dr-a", session)
	d.register("dr-a", session)
	if after := one[string](d, `select expires_at::text from session`); after != before {
		t.Errorf("the lease lasted until %s, now %s", before, after)
	}
	// A worker that was told another one goes by the database.
	other := open(t, d.dsn)
	if err := other.Migrate(t.Context()); err != nil || other.Terms().TTL != 20*time.Second {
		t.Errorf("another worker's terms are %v, %v", other.Terms(), err)
	}
}

// I1: a renewal that waits for a takeover finds the session sealed; a takeover that waits for
// a renewal finds it alive, and takes nothing.
func TestI1RenewalAndTakeoverThatMeet(t *testing.T) {
	t.Parallel()
	for _, renewedFirst := range []bool{true, false} {
		t.Run(fmt.Sprint("renewed first: ", renewedFirst), func(t *testing.T) {
			t.Parallel()
			d := newDB(t)
			d.drone("dr-a")
			d.drone("dr-b")
			d.spawn("k", "b-1", "dr-a")
			if renewedFirst {
				d.expireSession("dr-a")
				d.meanwhile(`update session set expires_at = now() + interval '1 minute', heard_at = now() where drone = 'dr-a'`, func() {
					got, rows, err := d.Connect(context.Background(), []lease.Want{want("k", "b-2", "dr-b")})
					if err != nil || got[0].Result != lease.Held || got[0].BackendID != "b-1" || len(rows) != 0 {
						t.Errorf("a takeover that waited got %+v, %v, %v", got[0], rows, err)
					}
				})
				return
			}
			d.meanwhile(`update session set sealed_at = now() where drone = 'dr-a'`, func() {
				heard, err := d.Heartbeat(context.Background(), "dr-a", &messages.HeartbeatRequest{Session: session})
				if err != nil || heard.Known {
					t.Errorf("a renewal that waited: %+v, %v", heard, err)
				}
			})
		})
	}
}
