package store_test

import (
	"context"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/messages"
)

// Keepalive is what a proxy says of all backends.
func (d *db) Keepalive(ctx context.Context, proxy string, backends []string, idle []int64) error {
	return d.Store.Keepalive(ctx, proxy, &messages.KeepaliveRequest{Backends: backends, IdleMS: idle})
}

// KeepaliveOfSome is what it says of some of them.
func (d *db) KeepaliveOfSome(ctx context.Context, proxy string, backends []string, idle []int64) error {
	return d.Store.Keepalive(ctx, proxy, &messages.KeepaliveRequest{Backends: backends, IdleMS: idle, Partial: true})
}

// silent is the word of a proxy that connections to a backend are open and no byte has passed for so long; 0: one has.
func (d *db) silent(proxy, id string, silent time.Duration) {
	d.t.Helper()
	word := messages.KeepaliveRequest{Backends: []string{id}, SilentMS: []int64{silent.Milliseconds()}}
	if err := d.Store.Keepalive(d.t.Context(), proxy, &word); err != nil {
		d.t.Fatal(err)
	}
}

// The demand: where bytes count, a backend sleeps while connections to it are open, once no byte has passed over them for sleep_after_seconds; one that passes by
// way of any proxy keeps it awake. Its idle limit counts connections all the same: who is connected in silence does not lose his session.
func TestI8WhatIsConnectedToInSilenceSleepsAndDoesNotEnd(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.sleepers("dr-a")
	w := want("k-b-1", "b-1", "dr-a")
	w.Spawn.SleepAfterSeconds, w.Spawn.SleepIgnoresIdle, w.Spawn.MaxIdleSeconds = 30, true, 60
	d.connect(w)
	d.transition(reported("b-1", messages.Ready))
	routes, err := d.Routes(t.Context(), []string{"token-of-b-1"})
	if err != nil || !routes[0].SleepIgnoresIdleConnections {
		t.Fatalf("the route is %+v, %v", routes[0], err)
	}

	// Bytes pass, then they do not.
	d.silent("px-a", "b-1", 0)
	d.silent("px-b", "b-1", 5*time.Second)
	d.goesBy(25*time.Second, "b-1")
	d.silent("px-a", "b-1", 25*time.Second)
	d.silent("px-b", "b-1", 0)
	d.goesBy(10*time.Second, "b-1")
	d.silent("px-a", "b-1", 35*time.Second)
	d.silent("px-b", "b-1", 10*time.Second)
	d.look("b-1")
	d.wantSweep(nil)
	d.goesBy(15*time.Second, "b-1")
	d.silent("px-b", "b-1", 25*time.Second)
	d.look("b-1")
	d.wantSweep(nil)
	d.goesBy(6*time.Second, "b-1")
	d.silent("px-b", "b-1", 31*time.Second)
	d.look("b-1")
	d.wantNaps(d.wantSweep(map[string]store.Cause{"b-1": store.CauseAsleep}), "b-1 1")

	// It is connected to, and so does not end.
	d.goesBy(90*time.Second, "b-1")
	d.silent("px-b", "b-1", 120*time.Second)
	d.look("b-1")
	d.wantSweep(nil)
	d.says("px-a")
	d.says("px-b")
	d.goesBy(61*time.Second, "b-1")
	d.wantSweep(map[string]store.Cause{"b-1": store.CauseIdle})
}

// A byte of which a proxy tells while a sweep puts the backend to sleep wakes it, and the word that there was silence does not.
func TestI3NobodySleepsWhileBytesPass(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		silent time.Duration
		naps   []string
	}{
		"a byte":  {0, []string{"b-1 1", "b-1 2"}},
		"silence": {time.Minute, []string{"b-1 1"}},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDB(t)
			d.sleepers("dr-a")
			d.tired("b-1", "dr-a", 30, 0)
			d.goesBy(61*time.Second, "b-1")
			rows := d.sweepMeanwhile(func() { d.silent("px-a", "b-1", c.silent) })
			d.wantNaps(rows, c.naps...)
		})
	}
}
