package client_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/internal/drone"
	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/internal/runtime/fake"
	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/internal/testkit/pgtest"
	"github.com/jetway-project/jetway/internal/worker"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// startStack runs a worker and the drone dr-a, whose runtime runs nothing, and gives the URL of their NATS server.
func startStack(t *testing.T) (url string) {
	t.Helper()
	url = natstest.Server(t).URL()
	startWorker(t, "wo-a", url, openStore(t), bus.DefaultStreams)
	startDrone(t, url, fake.New())
	return url
}

func openStore(t *testing.T) *store.Store {
	t.Helper()
	st, err := store.Open(t.Context(), store.Config{DSN: pgtest.Database(t), MaxConns: 4, Terms: lease.Terms{TTL: time.Hour}})
	must(t, err)
	t.Cleanup(st.Close)
	return st
}

func startWorker(t *testing.T, name, url string, st *store.Store, streams bus.Streams) {
	t.Helper()
	nc := natstest.Conn(t, url, nats.ReconnectBufSize(-1))
	run(t, func(ctx context.Context, ready func()) error {
		cfg := worker.Config{Name: name, Version: "1.2.3", DefaultCluster: "c.test:80", Streams: streams, OnReady: ready, Log: testkit.Logger(t)}
		return worker.Run(ctx, cfg, nc, st)
	})
}

func startDrone(t *testing.T, url string, rt *fake.Runtime) {
	t.Helper()
	nc := natstest.Conn(t, url)
	t.Cleanup(func() { _ = rt.Close() })
	run(t, func(ctx context.Context, ready func()) error {
		return drone.Run(ctx, drone.Config{
			Name: "dr-a", Cluster: "c.test:80", Version: "test", RuntimeName: "fake",
			Grace: 200 * time.Millisecond, ShutdownTimeout: testkit.Patience, OnReady: ready, Log: testkit.Logger(t),
		}, nc, rt)
	})
}

// run runs a role until the test ends.
func run(t *testing.T, role func(ctx context.Context, ready func()) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- role(ctx, sync.OnceFunc(func() { close(ready) })) }()
	t.Cleanup(func() {
		cancel()
		if err := testkit.Receive(t, ended, "the role ends"); err != nil {
			t.Error(err)
		}
	})
	testkit.Receive(t, ready, "the role is ready")
}
