package drone_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/drone"
	"github.com/jetway-project/jetway/internal/runtime/fake"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// bed is a drone on a fake machine, whose clock a test moves and whose reports of sleep it hears.
type bed struct {
	*site
	now hands

	mu   sync.Mutex
	said map[string][]messages.Report
}

func newBed(t *testing.T) *bed {
	t.Helper()
	b := &bed{site: newSite(t), said: map[string][]messages.Report{}}
	b.set(func() { b.everyMS = (10 * time.Minute).Milliseconds() }) // so no busy machine misses a heartbeat
	_, err := b.nc.Subscribe(messages.ReportSubject(b.drone), func(msg *nats.Msg) {
		req, err := messages.Decode[messages.ReportRequest](msg.Data)
		if err != nil {
			t.Error(err)
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, r := range req.Reports {
			b.said[r.BackendID] = append(b.said[r.BackendID], r)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bed) begin() *agent {
	b.t.Helper()
	a := b.run(b.now.is)
	a.awaitReady()
	return a
}

// ready spawns a backend and gives its instance.
func (b *bed) ready(id string, script fake.Script) *fake.Instance {
	b.t.Helper()
	b.spawn(id, script.Executable())
	b.await(id, messages.Ready)
	for _, i := range b.machine.Live() {
		if i.BackendID() == id {
			return i
		}
	}
	b.t.Fatalf("%s does not run", id)
	return nil
}

// nap sends the action of a change between awake and asleep.
func (b *bed) nap(id string, nap int64) {
	b.t.Helper()
	b.publish(messages.Encode(messages.NewNapAction(id, time.Now(), nap)))
}

// says waits until the newest report of a backend says so of its sleep.
func (b *bed) says(id string, nap int64, asleep bool) {
	b.t.Helper()
	testkit.Eventually(b.t, fmt.Sprintf("%s is reported with nap %d, asleep %v", id, nap, asleep), func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		last := messages.Report{}
		if n := len(b.said[id]); n > 0 {
			last = b.said[id][n-1]
		}
		return last.Nap == messages.Nap{Nap: nap, Asleep: asleep}
	})
}

// forget has what was said until now not count.
func (b *bed) forget(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.said, id)
}

// I3: a sleep and a wake apply once, and only a greater nap does, in whatever order they come and however often.
func TestI3NapsApplyOnceAndInOrder(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.begin()
	if !b.registered()[0].Sleeps {
		t.Error("it does not say that it can put backends to sleep")
	}
	instance := b.ready("b-1", fake.Script{})
	for _, step := range []struct {
		nap  int64
		at   int64
		want bool
	}{{1, 1, true}, {1, 1, true}, {2, 2, false}, {1, 2, false}, {5, 5, true}, {4, 5, true}, {2, 5, true}, {8, 8, false}, {7, 8, false}, {9, 9, true}} {
		b.forget("b-1")
		b.nap("b-1", step.nap)
		b.says("b-1", step.at, step.want)
		if instance.Asleep() != step.want {
			t.Fatalf("after nap %d it is asleep: %v", step.nap, instance.Asleep())
		}
	}
	b.settled()
	b.terminate("b-1", false)
	if end := b.end("b-1"); end.Kind != messages.Soft {
		t.Errorf("what sleeps ended %+v", end)
	}
	b.nap("b-1", 11) // which is taken, and means nothing
	b.nap("b-none", 1)
	b.settled()
}

// The demand: when in doubt, awake. What starts does not sleep, nor what the runtime cannot freeze; what somebody else has thawed is reported, and
// only a later nap puts any of them to sleep.
func TestWhenInDoubtABackendIsAwake(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.begin()
	b.spawn("b-slow", fake.Script{PrepareFor: fake.Duration(time.Hour)}.Executable())
	b.await("b-slow", messages.Loading)
	b.nap("b-slow", 1)
	b.says("b-slow", 1, false)

	b.ready("b-stiff", fake.Script{SleepError: "no freezer here"})
	b.nap("b-stiff", 3)
	b.says("b-stiff", 3, false)

	light := b.ready("b-light", fake.Script{})
	b.nap("b-light", 1)
	b.says("b-light", 1, true)
	light.Stir()
	b.says("b-light", 1, false)
	b.nap("b-light", 1) // the same is no order to sleep again
	b.nap("b-light", 3)
	b.says("b-light", 3, true)
}

// The demand: a drone that hears no worker wakes all, and says so when it is heard again.
func TestADroneThatHearsNoWorkerWakesAll(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.begin()
	instance := b.ready("b-1", fake.Script{})
	b.nap("b-1", 1)
	b.says("b-1", 1, true)
	b.down()
	b.now.move(21 * time.Minute)
	testkit.Eventually(t, "it is awake", func() bool { return !instance.Asleep() })
	b.up()
	b.says("b-1", 1, false)
}

// The demand: an agent that stops wakes what sleeps, since nobody could before the next one; the next one wakes what one that was
// killed has left asleep, and says so. Both remember the naps (I3).
func TestAnAgentLeavesNothingAsleep(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	first := b.begin()
	instance := b.ready("b-1", fake.Script{})
	b.nap("b-1", 5)
	b.says("b-1", 5, true)
	killed, err := os.ReadFile(filepath.Join(b.dir, "journal"))
	if err != nil {
		t.Fatal(err)
	}
	left(t, first)
	if instance.Asleep() {
		t.Error("the agent that left has left it asleep")
	}
	// As if that agent had been killed.
	err = os.WriteFile(filepath.Join(b.dir, "journal"), killed, 0o600)
	if err := errors.Join(err, instance.Sleep(t.Context(), func() {})); err != nil {
		t.Fatal(err)
	}
	b.forget("b-1")
	b.begin()
	b.says("b-1", 5, false)
	if instance.Asleep() {
		t.Error("it sleeps on")
	}
	b.nap("b-1", 3)
	b.settled()
	if instance.Asleep() {
		t.Error("an old nap was applied")
	}
	b.nap("b-1", 7)
	b.says("b-1", 7, true)
}

// The demand: what sleeps is let be: its use is not asked for.
func TestWhatSleepsIsNotMeasured(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	heard := make(chan string, 1000)
	_, err := b.nc.Subscribe(messages.StatsSubject("*"), func(msg *nats.Msg) {
		var stats messages.Stats
		if json.Unmarshal(msg.Data, &stats) == nil {
			select {
			case heard <- stats.BackendID:
			default:
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	b.run(b.now.is, func(c *drone.Config) { c.StatsEvery = 20 * time.Millisecond }).awaitReady()
	script := fake.Script{UsesCPU: fake.Duration(time.Millisecond)}
	b.ready("b-1", script)
	b.ready("b-2", script)
	for testkit.Receive(t, heard, "b-1 is measured") != "b-1" {
	}
	b.nap("b-1", 1)
	b.says("b-1", 1, true)
	for last, after := 0, 0; after < 5; { // one may be under way
		switch testkit.Receive(t, heard, "b-2 is measured") {
		case "b-2":
			after++
		case "b-1":
			if last++; last > 3 {
				t.Fatal("what sleeps is measured")
			}
			after = 0
		}
	}
}
