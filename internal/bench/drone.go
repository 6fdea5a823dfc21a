package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/drone"
	"github.com/jetway-project/jetway/internal/runtime/fake"
	"github.com/jetway-project/jetway/messages"
)

func cluster(run string) string { return "bench-" + run + ".invalid" }

// drones is how many take this many backends.
func drones(backends int) int { return (backends + messages.MaxNamed - 1) / messages.MaxNamed }

// startDrones brings n drones at once.
func startDrones(ctx context.Context, dial func(name string) (*nats.Conn, error), log *slog.Logger, name, cluster string, n int) (stop func(), err error) {
	stops, errs := make([]func(), n), make([]error, n)
	all := func(do func(i int)) {
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() { do(i) })
		}
		wg.Wait()
	}
	all(func(i int) {
		stops[i], errs[i] = startDrone(ctx, dial, log, fmt.Sprintf("%s-%d", name, i), cluster, time.Minute)
	})
	stop = func() {
		all(func(i int) {
			if stops[i] != nil {
				stops[i]()
			}
		})
	}
	if err := errors.Join(errs...); err != nil {
		stop()
		return nil, err
	}
	return stop, nil
}

// startDrone brings a drone that runs nothing and waits until it takes backends. It has so
// long to report the ends of what it holds.
func startDrone(ctx context.Context, dial func(name string) (*nats.Conn, error), log *slog.Logger, name, cluster string, ending time.Duration) (stop func(), err error) {
	nc, err := dial(name)
	if err != nil {
		return nil, err
	}
	ready := make(chan struct{})
	ended := make(chan error, 1)
	droneCtx, cancel := context.WithCancel(ctx)
	go func() {
		ended <- drone.Run(droneCtx, drone.Config{
			Name: name, Cluster: cluster, RuntimeName: "fake", OnExit: drone.End, Log: log,
			ShutdownTimeout: ending, // there is much to report
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
