package bench

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/boottime"
	"github.com/jetway-project/jetway/messages"
	jetwayclient "github.com/jetway-project/jetway/messages/client"
)

// park brings a drone that registers and heartbeats but takes no action, so that
// what is measured ends where the connect path ends: with the reply and both
// messages in their streams. What was placed on it ends as lost when its leases run
// out, or when the name registers again without it.
func park(ctx context.Context, nc *nats.Conn, name, cluster string, log *slog.Logger) (string, func(), error) {
	const session = "parked"
	registered, err := jetwayclient.Request[messages.RegisterResponse](ctx, nc, messages.RegisterSubject(name), messages.RegisterRequest{
		Session: session, MachineID: session, BootID: session, Cluster: cluster, Runtime: "parked", DroneTimeMS: boottime.Now().Milliseconds(),
	})
	if err != nil {
		return "", nil, fmt.Errorf("register the parked drone: %w", err)
	}
	beat := func() error {
		_, err := jetwayclient.Request[messages.HeartbeatResponse](ctx, nc, messages.HeartbeatSubject(name), messages.HeartbeatRequest{
			Session: session, DroneTimeMS: boottime.Now().Milliseconds(), Ready: true,
		})
		return err
	}
	if err := beat(); err != nil {
		return "", nil, fmt.Errorf("let the parked drone be heard: %w", err)
	}
	stop := make(chan struct{})
	var beating sync.WaitGroup
	beating.Go(func() {
		ticker := time.NewTicker(max(time.Second, time.Duration(registered.HeartbeatIntervalMS)*time.Millisecond/2))
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				if err := beat(); err != nil {
					log.Warn("the parked drone cannot heartbeat", "drone", name, "err", err)
				}
			case <-stop:
				return
			case <-ctx.Done():
				return
			}
		}
	})
	return cluster, func() { close(stop); beating.Wait() }, nil
}
