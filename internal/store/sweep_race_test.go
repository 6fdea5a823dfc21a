package store_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/internal/outbox"
	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/messages"
)

// A renewal that is under way while the sweep looks: the lease was expired for the
// one and not for the other, and what the drone is told must hold.
func TestI1RenewalThatIsUnderWaySavesItsBackendFromTheSweep(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	d.spawn("k", "b-1", "dr-a")
	d.spawn("j", "b-2", "dr-a")
	d.expire("b-1")
	d.expire("b-2")
	d.look("b-1", "b-2")
	d.meanwhile(`update lease set sealed_until = null where backend_id = 'b-1'`, func() {
		got, _ := d.sweep()
		if want := map[string]store.Cause{"b-2": store.CauseLost}; !maps.Equal(got, want) {
			t.Errorf("swept %v, want %v", got, want)
		}
	})
	if s := d.status("b-1").Status; s != messages.Scheduled {
		t.Errorf("a renewed backend is %s", s)
	}
	if renewed := d.renew("dr-a", session, "b-1", "b-2"); !slices.Equal(renewed, []string{"b-1"}) {
		t.Errorf("renewed %v", renewed)
	}
}

func TestI6TwoWorkersThatSweepAtOnceDoEachThingOnce(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	const each = 150 // more than one batch
	var lost, idle []string
	for i := range each {
		lost, idle = append(lost, fmt.Sprintf("b-lost-%d", i)), append(idle, fmt.Sprintf("b-idle-%d", i))
		d.spawn(lost[i], lost[i], "dr-a")
		d.limited(idle[i], 1, 0)
		d.transition(reported(lost[i], messages.Loading), reported(idle[i], messages.Ready))
	}
	d.exec(`update lease set sealed_until = now() - interval '1 second' where name like 'b-lost-%'`)
	d.exec(`update backend set lifetime_ends_at = now()`)
	d.exec(`delete from outbox where kind = 'state'`) // published
	d.look(append(lost, idle...)...)

	var mu sync.Mutex
	doneTo, states, ends := make(map[string]int), make(map[string]int), make(map[string]int)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for idleTurns := 0; idleTurns < 3; {
				swept, err := d.Sweep(context.Background(), startWithin)
				if err != nil {
					t.Error(err)
					return
				}
				if len(swept.Done) == 0 && !swept.Full {
					idleTurns++
				}
				mu.Lock()
				for _, due := range swept.Done {
					doneTo[due.BackendID]++
				}
				for _, r := range swept.Rows {
					switch r.Kind {
					case outbox.KindState:
						states[r.BackendID]++
					case outbox.KindTerminate:
						ends[r.BackendID]++
					}
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for _, id := range lost {
		if doneTo[id] != 1 || states[id] != 1 || ends[id] != 1 {
			t.Errorf("%s: done %d times, %d states, %d terminations", id, doneTo[id], states[id], ends[id])
		}
	}
	for _, id := range idle {
		if doneTo[id] != 1 || states[id] != 0 || ends[id] != 1 {
			t.Errorf("%s: done %d times, %d states, %d terminations", id, doneTo[id], states[id], ends[id])
		}
	}
	if n := one[int](d, `select count(*) from outbox where kind = 'terminate'`); n != 2*each {
		t.Errorf("%d terminations are on record, want %d", n, 2*each)
	}
}

// What one worker had in hand when it died is another's a few seconds later.
func TestI6WhatASweepLeftBehindIsDoneByTheNext(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	d.spawn("k", "b-1", "dr-a")
	d.expire("b-1")
	d.look("b-1")
	tx, err := d.raw.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `select from lease for update`); err != nil {
		t.Fatal(err)
	}
	ctx, die := context.WithCancel(t.Context())
	var dying sync.WaitGroup
	dying.Go(func() {
		if _, err := d.Sweep(ctx, startWithin); err == nil {
			t.Error("a sweep went on without its database")
		}
	})
	d.blocked(1) // it has put the backend off, and waits for the lease
	die()
	dying.Wait()
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.wantSweep(nil)
	d.wantDueWithin("b-1", 0, 5*time.Second)
	d.look("b-1")
	d.wantSweep(map[string]store.Cause{"b-1": store.CauseLost})
}

// A takeover and a sweep that find the same leases expired: each backend ends once, and
// each key goes to one.
func TestI1I5TakeoverAndSweepThatMeetEndABackendOnce(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	const keys, turns = 40, 4
	for turn := range turns {
		var wants []lease.Want
		for k := range keys {
			old := want(fmt.Sprintf("k-%02d", k), fmt.Sprintf("b-%d-%02d", turn, k), "dr-a")
			if turn == 0 {
				d.connect(old)
			}
			wants = append(wants, want(old.Key.Name, fmt.Sprintf("b-%d-%02d", turn+1, k), "dr-a"))
		}
		d.exec(`update lease set sealed_until = now() - interval '1 second'`)
		d.exec(`update backend set due_at = now() - random() * interval '1 minute' where ended_at is null`)
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				if _, err := d.Sweep(context.Background(), startWithin); err != nil {
					t.Error("sweep:", err)
				}
			})
		}
		wg.Go(func() {
			if _, _, err := d.Connect(context.Background(), wants); err != nil {
				t.Error("connect:", err)
			}
		})
		wg.Wait()
	}
	for k := range keys {
		for turn := range turns + 1 {
			id := fmt.Sprintf("b-%d-%02d", turn, k)
			ended, last := one[bool](d, `select status = 70 from backend where id = $1`, id), turn == turns
			if n := one[int](d, `select count(*) from outbox where backend_id = $1 and kind = 'state' and status = 70`, id); ended == last || (n == 1) == last || n > 1 {
				t.Errorf("%s: ended %v, published %d times", id, ended, n)
			}
			if holds := one[bool](d, `select exists (select from lease where backend_id = $1 and released_at is null)`, id); holds != last {
				t.Errorf("%s holds its key: %v", id, holds)
			}
		}
	}
}
