package bench

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/drone"
	"github.com/jetway-project/jetway/internal/runtime/fake"
)

func cluster(run string) string { return "bench-" + run + ".invalid" }

// startDrone brings a drone that runs nothing and waits until it takes backends.
func startDrone(ctx context.Context, dial func(name string) (*nats.Conn, error), log *slog.Logger, name, cluster string) (stop func(), err error) {
	nc, err := dial(name)
	if err != nil {
		return nil, err
	}
	ready := make(chan struct{})
	ended := make(chan error, 1)
	droneCtx, cancel := context.WithCancel(ctx)
	go func() {
		ended <- drone.Run(droneCtx, drone.Config{
			Name: name, Cluster: cluster, RuntimeName: "fake", Log: log,
			ShutdownTimeout: time.Minute, // there is much to report
			OnReady:         func() { close(ready) },
		}, nc, fake.New())
	}()
	stop = func() {
		cancel()
		if err := <-ended; err != nil {
			log.Warn("the drone of the bench did not end cleanly", "err", err)
		}
		nc.Close()
	}
	select {
	case <-ready:
		return stop, nil
	case err := <-ended:
		cancel()
		nc.Close()
		return nil, fmt.Errorf("start the drone of the bench: %w", err)
	case <-time.After(startTimeout):
		stop()
		return nil, fmt.Errorf("no worker has registered the drone of the bench within %s", startTimeout)
	}
}
