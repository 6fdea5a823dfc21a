package outbox_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"

	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// wantSpawn: the state before the action, the state once, the action once for each relay that
// may have taken all that is on record, always with the same id.
func (r *rig) wantSpawn(id string, relays int) {
	r.t.Helper()
	testkit.Eventually(r.t, "the action is on the bus", func() bool { return len(r.stream(messages.StreamActions)) > 0 })
	events, actions := r.stream(messages.StreamEvents), r.stream(messages.StreamActions)
	if !slices.Equal(ids(events), []string{id + ".10"}) || len(actions) > relays || !slices.Equal(slices.Compact(ids(actions)), []string{id + ".spawn"}) {
		r.t.Fatalf("on the bus: events %v, actions %v", ids(events), ids(actions))
	}
	if !events[0].at.Before(actions[0].at) {
		r.t.Errorf("the action was stored at %s, before its state at %s", actions[0].at, events[0].at)
	}
	action, err := messages.Decode[messages.Action](actions[0].Data)
	if err != nil {
		r.t.Fatal(err)
	}
	if want := r.Terms().Deadlines(1000); action.Spawn.Deadlines != want || action.Spawn.FencingToken < 1 {
		r.t.Errorf("the spawn is %+v, want deadlines %+v", action.Spawn, want)
	}
}

func TestI3CrashBetweenCommitAndPublish(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.connect("k", "b-1") // whoever committed never publishes
	relay, _ := r.relay(r.url)
	other, _ := r.relay(r.url)
	relay.Heal(true)
	other.Heal(true) // publishes the same ids at most
	r.wantSpawn("b-1", 2)
	if left := r.left(); !slices.Equal(left, []string{"spawn b-1 10"}) {
		t.Errorf("on record: %v, want the spawn until it is taken", left)
	}
	if err := relay.Publish(t.Context(), r.report("b-1", messages.Loading)); err != nil {
		t.Fatal(err)
	}
	if left := r.left(); len(left) != 0 {
		t.Errorf("on record after its drone reported loading: %v", left)
	}
}

func TestI3ProcessKilledAfterCommit(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), crashEnv+"="+r.dsn)
	child.Stderr = os.Stderr
	err := child.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the child ended with %v, want it killed", err)
	}
	relay, _ := r.relay(r.url)
	relay.Heal(true)
	r.wantSpawn("b-1", 1)
}

func TestI3OnlyWhatIsOverdueIsPickedUpUnasked(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.connect("k", "b-1")
	if rows, err := r.ClaimOutbox(t.Context(), false, 10); err != nil || len(rows) != 0 {
		t.Errorf("just committed, its worker may be publishing it: claimed %v, %v", rows, err)
	}
	if rows, err := r.ClaimOutbox(t.Context(), true, 10); err != nil || len(rows) != 1 {
		t.Errorf("asked for all: claimed %v, %v", rows, err)
	}
}

func TestI5PublishReturnsOnceStatesAreOnTheBusAndOffTheRecord(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	relay, _ := r.relay(r.url)
	rows := append(r.connect("k", "b-1"), r.report("b-1", messages.Loading, messages.Starting, messages.Ready)...)
	if err := relay.Publish(t.Context(), rows); err != nil {
		t.Fatal(err)
	}
	want := []string{"b-1.10", "b-1.20", "b-1.30", "b-1.50"}
	if got := ids(r.stream(messages.StreamEvents)); !slices.Equal(got, want) {
		t.Errorf("on the bus: %v, want %v", got, want)
	}
	if left := r.left(); len(left) != 0 {
		t.Errorf("on record: %v", left)
	}
}

func TestI5EventsOutliveAnAbsentBusInOrder(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	link := testkit.NewFaultProxy(t, r.url[len("nats://"):])
	relay, _ := r.relay("nats://" + link.Addr())
	if err := relay.Publish(t.Context(), r.connect("k", "b-1")); err != nil {
		t.Fatal(err)
	}
	link.Cut()
	reported := [][]messages.Status{{messages.Loading}, {messages.Starting, messages.Waiting}, {messages.Ready}, {messages.Terminated}}
	for _, statuses := range reported {
		rows := r.report("b-1", statuses...)
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // the asker does not wait
		if err := relay.Publish(ctx, rows); err == nil {
			t.Fatal("published while the bus is away")
		}
	}
	link.Heal()
	want := []string{"b-1.10", "b-1.20", "b-1.30", "b-1.40", "b-1.50", "b-1.70"}
	testkit.Eventually(t, "all states are on the bus", func() bool {
		relay.Heal(true)
		return len(r.stream(messages.StreamEvents)) >= len(want)
	})
	if got := ids(r.stream(messages.StreamEvents)); !slices.Equal(got, want) {
		t.Errorf("on the bus: %v, want %v", got, want)
	}
	testkit.Eventually(t, "the outbox is empty", func() bool { return len(r.left()) == 0 })
	for _, m := range r.stream(messages.StreamEvents) {
		var e messages.StateEvent
		if err := json.Unmarshal(m.Data, &e); err != nil || e.ID != m.id {
			t.Errorf("%s: %s, %v", m.id, m.Data, err)
		}
	}
}

func TestStoppedRelayRefusesAndLeavesRows(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	relay, stop := r.relay(r.url)
	stop()
	rows := r.report(r.connect("k", "b-1")[0].BackendID, messages.Loading)
	if err := relay.Publish(t.Context(), rows); err == nil {
		t.Error("a stopped relay says that it published")
	}
	relay.Enqueue(rows) // returns
	if left := r.left(); !slices.Equal(left, []string{"state b-1 20"}) {
		t.Errorf("on record: %v, want the state", left)
	}
}

// I3: all that is on record is published again when the bus is back, also when it is more than
// is taken at once, and when something less was asked for just before. Each comes once, for no
// time passes: where it took more than 5 s to publish two thousand, as beside a load, the first of them were due again.
func TestI3HealPublishesAllHoweverMuch(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.stopTime()
	const each = 100
	batches := testkit.Sized(t, 11, 25) // a thousand are taken at once
	for b := range batches {
		wants := make([]lease.Want, each)
		for i := range wants {
			name := fmt.Sprintf("b-%d-%d", b, i)
			wants[i] = want(name, name)
		}
		if _, rows, err := r.Connect(t.Context(), wants); err != nil || len(rows) != each {
			t.Fatalf("connect: %d rows, %v", len(rows), err)
		}
	}
	relay, _ := r.relay(r.url)
	relay.Heal(false)
	relay.Heal(true)
	for _, name := range []string{messages.StreamEvents, messages.StreamActions} {
		testkit.Eventually(t, name+" has everything", func() bool {
			stream, err := r.js.Stream(t.Context(), name)
			return err == nil && stream.CachedInfo().State.Msgs == uint64(batches*each)
		})
	}
}
