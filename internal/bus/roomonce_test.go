package bus_test

import (
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
)

// The demand: a server with room for the streams is enough, as the handbook says. Workers that see to it later that the streams are
// there ask for no more; they logged a failure every few seconds on a server with less than twice as much.
func TestStreamsThatAreThereTakeNoMoreRoom(t *testing.T) {
	t.Parallel()
	js := natstest.JetStream(t, natstest.Conn(t, natstest.Configured(t, &server.Options{
		JetStream: true, StoreDir: t.TempDir(), JetStreamMaxMemory: 300 << 20, JetStreamMaxStore: 2560 << 20,
	})))
	natstest.Insist(t, func() error { return bus.EnsureStreams(t.Context(), js, bus.Streams{}) })
	if err := bus.MakeMissingStreams(t.Context(), js, bus.Streams{}); err != nil {
		t.Errorf("streams that are there: %v", err)
	}
	if err := bus.EnsureStreams(t.Context(), js, bus.Streams{}); err != nil {
		t.Errorf("a second worker: %v", err)
	}
}
