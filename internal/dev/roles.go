package dev

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/drone"
	"github.com/jetway-project/jetway/internal/drone/identity"
	"github.com/jetway-project/jetway/internal/gateway"
	"github.com/jetway-project/jetway/internal/metrics"
	"github.com/jetway-project/jetway/internal/proxy"
	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/docker"
	"github.com/jetway-project/jetway/internal/runtime/fake"
	"github.com/jetway-project/jetway/internal/runtime/process"
	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/internal/worker"
)

const (
	// drainTimeout bounds the last words of a role on its NATS connection.
	drainTimeout = time.Second
	// proxyDrain is how long open connections may go on when the stack stops:
	// what they lead to is about to be ended.
	proxyDrain = 300 * time.Millisecond
)

// start starts all parts in order. What it has started it has added.
func (s *Stack) start(ctx context.Context) error {
	file, err := lock(s.cfg.Data)
	if err != nil {
		return err
	}
	s.add("lock", func(context.Context) error { return file.Close() })
	s.add("roles", s.await)

	// The ports first: they fail quickly.
	listener, err := s.listen("proxy", "--proxy-port", s.cfg.ProxyHost, s.cfg.ProxyPort)
	if err != nil {
		return err
	}
	// It asks for no token, so it is for this machine alone.
	gatewayListener, err := s.listen("gateway", "--gateway-port", "127.0.0.1", s.cfg.GatewayPort)
	if err != nil {
		return err
	}
	s.GatewayURL = "http://" + gatewayListener.Addr().String()
	port := listener.Addr().(*net.TCPAddr).Port
	s.Cluster = net.JoinHostPort(clusterHost(s.cfg.ProxyHost), strconv.Itoa(port))
	s.ProxyURL = "http://" + s.Cluster

	if err := s.startMetrics(); err != nil {
		return err
	}
	for _, start := range []func(context.Context) error{s.startNATS, s.startPostgres, s.startWorker, s.startDrone} {
		if err := start(ctx); err != nil {
			return err
		}
	}
	if err := s.startProxy(ctx, listener); err != nil {
		return err
	}
	return s.startGateway(ctx, gatewayListener)
}

// listen opens a port, closed when the stack stops.
func (s *Stack) listen(title, flag, host string, port int) (net.Listener, error) {
	listener, err := listen(flag, host, port)
	if err != nil {
		return nil, err
	}
	s.add(title+"'s port", func(context.Context) error {
		if err := listener.Close(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	return listener, nil
}

func (s *Stack) startMetrics() (err error) {
	if s.cfg.MetricsAddr == "" {
		return nil
	}
	if s.metrics, err = metrics.Start(s.cfg.MetricsAddr, s.cfg.Log); err != nil {
		return fmt.Errorf("--metrics-addr: %w", err)
	}
	s.MetricsURL = s.metrics.URL()
	s.add("metrics", func(context.Context) error { s.metrics.Close(); return nil })
	return nil
}

func (s *Stack) startWorker(ctx context.Context) error {
	tracer, err := s.tracer(ctx, "worker", WorkerName)
	if err != nil {
		return err
	}
	keys, err := tokenKeys(s.cfg.Data)
	if err != nil {
		return err
	}
	return s.run(ctx, role{title: "worker", name: WorkerName, run: func(ctx context.Context, nc *nats.Conn, ready func()) error {
		st, err := store.Open(ctx, store.Config{DSN: s.PostgresDSN, Terms: s.cfg.Terms, Log: s.cfg.Log})
		if err != nil {
			return err
		}
		defer st.Close() // waits for its statements
		return worker.Run(ctx, worker.Config{
			Name:           WorkerName,
			DefaultCluster: s.Cluster,
			Origins:        s.cfg.Origins,
			Keys:           keys,
			Retain:         s.cfg.Retain,
			Streams:        s.cfg.Streams,
			Version:        s.cfg.Version,
			OnReady:        ready,
			Metrics:        s.metrics.Metrics(),
			Tracer:         tracer,
			Log:            s.cfg.Log,
		}, nc, st)
	}})
}

func (s *Stack) startDrone(ctx context.Context) error {
	var rt runtime.Runtime = fake.New()
	var err error
	switch s.cfg.Runtime {
	case RuntimeProcess:
		rt, err = process.New(process.Config{Root: s.cfg.ProcessRoot})
	case RuntimeDocker:
		rt, err = docker.New(ctx, docker.Config{
			Drone: DroneName, Engine: s.cfg.DockerHost, Host: "127.0.0.1", StateDir: filepath.Join(s.cfg.Data, "docker"), Log: s.cfg.Log,
		})
	}
	if err != nil {
		return fmt.Errorf("--runtime %s: %w", s.cfg.Runtime, err)
	}
	s.add("runtime", func(context.Context) error { return rt.Close() })
	tracer, err := s.tracer(ctx, "drone", DroneName)
	if err != nil {
		return err
	}
	// What it ran ended with it: the next run of this directory has its name at once.
	who, err := identity.Keep(DroneName, s.cfg.Data, s.cfg.Log)
	if err != nil {
		return err
	}
	hurry := make(chan struct{})
	return s.run(ctx, role{
		title: "drone", name: DroneName,
		kill: sync.OnceFunc(func() { close(hurry) }),
		run: func(ctx context.Context, nc *nats.Conn, ready func()) error {
			return drone.Run(ctx, drone.Config{
				Name:            DroneName,
				Cluster:         s.Cluster,
				Who:             who,
				Grace:           s.cfg.Grace,
				ShutdownTimeout: s.cfg.Grace * 3 / 2,
				OnExit:          drone.End,
				Hurry:           hurry,
				Version:         s.cfg.Version,
				RuntimeName:     s.cfg.Runtime,
				OnReady:         ready,
				Tracer:          tracer,
				Log:             s.cfg.Log,
			}, nc, rt)
		},
	})
}

func (s *Stack) startProxy(ctx context.Context, listener net.Listener) error {
	// The proxy is made before its run is: its connection has to know it.
	var ready func()
	px, err := proxy.New(proxy.Config{
		Name:         ProxyName,
		Listener:     listener,
		DrainTimeout: proxyDrain,
		Embedded:     s.cfg.Embedded,
		Version:      s.cfg.Version,
		OnReady:      func() { ready() },
		Log:          s.cfg.Log,
	})
	if err != nil {
		return err
	}
	return s.run(ctx, role{
		title: "proxy", name: ProxyName, gap: px.BusGap,
		run: func(ctx context.Context, nc *nats.Conn, isReady func()) error {
			ready = isReady
			return px.Run(ctx, nc)
		},
	})
}

func (s *Stack) startGateway(ctx context.Context, listener net.Listener) error {
	counts, err := metrics.StartGateway("", s.cfg.Log)
	if err != nil {
		return err
	}
	return s.run(ctx, role{title: "gateway", name: GatewayName, run: func(ctx context.Context, nc *nats.Conn, ready func()) error {
		gw, err := gateway.New(gateway.Config{
			Name:     GatewayName,
			Listener: listener,
			Version:  s.cfg.Version,
			OnReady:  ready,
			Metrics:  counts,
			Log:      s.cfg.Log,
		})
		if err != nil {
			return err
		}
		return gw.Run(ctx, nc)
	}})
}
