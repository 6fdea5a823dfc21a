package worker_test

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/jetway-project/jetway/internal/runtime/fake"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/internal/worker"
	"github.com/jetway-project/jetway/messages"
)

// forgetful are workers that look for what is past its time all the time.
func forgetful(t *testing.T, w *world, ttl time.Duration) {
	t.Helper()
	for _, name := range []string{"wo-a", "wo-b"} {
		startWorker(t, w, name, options{ttl: ttl, change: func(c *worker.Config) {
			c.SweepEvery, c.Retain, c.RetainEvery = 100*time.Millisecond, time.Hour, 100*time.Millisecond
		}})
	}
}

func hasConsumer(t *testing.T, w *world, drone string) bool {
	t.Helper()
	js := natstest.JetStream(t, w.nc)
	_, err := js.PushConsumer(t.Context(), messages.StreamActions, drone)
	if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		t.Error(err)
	}
	return err == nil
}

func TestI8DroneThatIsLostForLongIsForgottenWithItsConsumer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	forgetful(t, w, longTTL)
	here := startDrone(t, w, "dr-here", w.url)
	gone := startPeer(t, w, "dr-gone")
	gone.stopConsuming()
	elapse(t, w, "dr-gone", longTTL)
	awaitDroneEvents(t, w, "dr-gone", messages.TypeDroneRegistered, messages.TypeDroneLost)
	if !hasConsumer(t, w, "dr-gone") {
		t.Error("a drone that was lost just now has no consumer")
	}
	_, err := w.db.Exec(t.Context(), `update drone set lost_at = lost_at - interval '1 hour' where name = 'dr-gone'`)
	must(t, err)
	testkit.Eventually(t, "the drone and its consumer are gone", func() bool {
		return w.count("drone where name = 'dr-gone'") == 0 && !hasConsumer(t, w, "dr-gone")
	})
	id := w.connect(spawnKey("doc")).BackendID
	testkit.Eventually(t, "the other one runs backends", func() bool { return len(here.rt.Live()) == 1 })
	if w.status(id).Drone != "dr-here" || !hasConsumer(t, w, "dr-here") {
		t.Error("the drone that is there was forgotten")
	}
}

// A drone may come back just when it is forgotten; then it finds its session and its consumer gone.
func TestI3DroneThatWasForgottenRegistersAndIsUsable(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	// It finds out with its next renewal, some seconds later; with a shorter lease it would wait too shortly for each answer.
	forgetful(t, w, testkit.Patience/3)
	d := startDrone(t, w, "dr-a", w.url)
	_, err := w.db.Exec(t.Context(), `update drone set lost_at = now() - interval '2 hours'`)
	must(t, err)
	testkit.Eventually(t, "the drone is forgotten", func() bool { return w.count("drone where lost_at is not null") == 0 })
	// What it is given before it knows that it is registered may be lost: then the next who asks starts another.
	testkit.Eventually(t, "it is given a backend, and runs it", func() bool {
		data, refusal := w.ask(messages.SubjectConnect, limited("doc", 0, 0, fake.Script{}.Executable()))
		if refusal != nil {
			return false
		}
		live := d.rt.Live()
		return len(live) == 1 && live[0].BackendID() == as[messages.ConnectResponse](t, data).BackendID
	})
}

// What has ended is kept for a while, also for those who ask about it, and then gone.
func TestI8EndedBackendCanBeAskedForUntilItIsPastItsTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	forgetful(t, w, longTTL)
	startDrone(t, w, "dr-a", w.url)
	first := w.connect(limited("doc", 1, 0, fake.Script{}.Executable()))
	awaitEnd(t, w, first.BackendID)
	if w.status(first.BackendID).Status != messages.Terminated {
		t.Error("the status of a backend that has just ended is not known")
	}
	_, err := w.db.Exec(t.Context(), `update backend set ended_at = ended_at - interval '1 hour'`)
	must(t, err)
	testkit.Eventually(t, "it is gone, and its token too", func() bool {
		return w.count("backend") == 0 && w.count("token") == 0
	})
	if _, refusal := w.ask(messages.SubjectStatus, messages.StatusRequest{BackendID: first.BackendID}); refusal == nil || refusal.Kind != messages.NotFound {
		t.Errorf("asked for, it is %v", refusal)
	}
	req := spawnKey("another")
	req.SpawnConfig.ID = first.BackendID
	if again := w.connect(req); again.BackendID != first.BackendID || !again.Spawned {
		t.Errorf("its id cannot be used again: %+v", again)
	}
	if _, ok := w.route(first.Token); ok {
		t.Error("the token of the earlier one leads to the next")
	}
}
