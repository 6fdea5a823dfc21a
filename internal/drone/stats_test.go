package drone_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/drone"
	"github.com/jetway-project/jetway/internal/runtime/fake"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

func TestWhatEachBackendUsesIsPublished(t *testing.T) {
	t.Parallel()
	h, _, _ := rig(t, func(c *drone.Config) { c.StatsEvery = 50 * time.Millisecond })
	heard := make(chan *nats.Msg, 64)
	if _, err := h.nc.ChanSubscribe(messages.StatsSubject("*"), heard); err != nil {
		t.Fatal(err)
	}
	if err := h.nc.FlushTimeout(testkit.Patience); err != nil {
		t.Fatal(err)
	}
	h.spawn("b-silent", fake.Script{}.Executable())
	h.spawn("b-1", fake.Script{UsesCPU: fake.Duration(3 * time.Millisecond), UsesMemory: 1000, MemoryBytes: 5000}.Executable())
	h.spawn("b-2", fake.Script{UsesMemory: 2000}.Executable())
	last := map[string]time.Time{}
	for len(last) < 2 {
		msg := testkit.Receive(t, heard, "something is published")
		stats, err := messages.Decode[messages.Stats](msg.Data)
		if err != nil || msg.Subject != messages.StatsSubject(stats.BackendID) {
			t.Fatalf("%s: %v", msg.Subject, err)
		}
		want := map[string]messages.Stats{
			"b-1": {CPUUsed: 3_000_000, MemUsed: 1000, MemLimit: 5000},
			"b-2": {MemUsed: 2000},
		}[stats.BackendID]
		if stats.CPUUsed != want.CPUUsed || stats.MemUsed != want.MemUsed || stats.MemLimit != want.MemLimit {
			t.Fatalf("%+v", stats)
		}
		last[stats.BackendID] = stats.Time
	}
}
