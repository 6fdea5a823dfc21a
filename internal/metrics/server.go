package metrics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	// readyFor is how long an answer about readiness is given again.
	readyFor = 500 * time.Millisecond
	// readyTimeout bounds the asking of Postgres and NATS.
	readyTimeout = 2 * time.Second
	// closeTimeout bounds the wait for requests under way when the server closes.
	closeTimeout = time.Second
)

// Server serves /metrics, /healthz and /readyz of one role: one of the first four fields is not nil.
type Server struct {
	worker   *Worker
	proxy    *Proxy
	drone    *Drone
	gateway  *Gateway
	probes   func() *probes
	listener net.Listener // nil: it is served by the role itself
	http     http.Server
	log      *slog.Logger
	running  sync.WaitGroup
	ready    readiness
}

// probes are whether a role is alive and ready.
type probes struct {
	alive func() error
	ready func(ctx context.Context) error
}

// Start listens on addr, [host]:port, and serves until Close: the metrics of a
// worker, of this process and of Go. Until the worker shows itself it is alive but
// not ready.
func Start(addr string, log *slog.Logger) (*Server, error) {
	return start(addr, log, func(s *Server, reg prometheus.Registerer) {
		s.worker = NewWorker(reg)
		s.probes = s.worker.probes
	})
}

// StartProxy is [Start] for a proxy.
func StartProxy(addr string, log *slog.Logger) (*Server, error) {
	return start(addr, log, func(s *Server, reg prometheus.Registerer) {
		s.proxy = NewProxy(reg)
		s.probes = s.proxy.probes
	})
}

// StartDrone is [Start] for a drone.
func StartDrone(addr string, log *slog.Logger) (*Server, error) {
	return start(addr, log, func(s *Server, reg prometheus.Registerer) {
		s.drone = NewDrone(reg)
		s.probes = s.drone.probes
	})
}

// StartGateway is [Start] for a gateway, which serves them itself too; addr "": nobody else does.
func StartGateway(addr string, log *slog.Logger) (*Server, error) {
	of := func(s *Server, reg prometheus.Registerer) {
		s.gateway = NewGateway(reg)
		s.probes = s.gateway.probes
	}
	if addr == "" {
		return prepare(log, of), nil
	}
	return start(addr, log, of)
}

func start(addr string, log *slog.Logger, of func(*Server, prometheus.Registerer)) (*Server, error) {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen for metrics: %w", err)
	}
	s := prepare(log, of)
	s.listener = listener
	s.running.Go(func() {
		if err := s.http.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.Error("metrics and health are no longer served", "err", err)
		}
	})
	log.Info("serving metrics and health", "url", s.URL())
	return s, nil
}

// prepare makes a server that does not listen.
func prepare(log *slog.Logger, of func(*Server, prometheus.Registerer)) *Server {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	s := &Server{log: log}
	of(s, reg)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{
		MaxRequestsInFlight: 4,
		Timeout:             10 * time.Second,
		ErrorHandling:       promhttp.ContinueOnError,
	}))
	mux.HandleFunc("GET /healthz", s.healthz)
	mux.HandleFunc("GET /readyz", s.readyz)
	s.http = http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      15 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	return s
}

// ServeHTTP is for a role that serves its metrics and health itself, too.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.http.Handler.ServeHTTP(w, r) }

// URL is where the server is reached, without a path.
func (s *Server) URL() string { return "http://" + s.listener.Addr().String() }

// Close stops serving and waits for it. It may be called on nil.
func (s *Server) Close() {
	if s == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if s.http.Shutdown(ctx) != nil {
		_ = s.http.Close()
	}
	s.running.Wait()
}

// Metrics are those to give to the worker, which shows itself through them. On nil
// they are nil, and nothing is shown.
func (s *Server) Metrics() *Worker {
	if s == nil {
		return nil
	}
	return s.worker
}

// Proxy is [Server.Metrics] of a proxy's server.
func (s *Server) Proxy() *Proxy {
	if s == nil {
		return nil
	}
	return s.proxy
}

// Drone is [Server.Metrics] of a drone's server.
func (s *Server) Drone() *Drone {
	if s == nil {
		return nil
	}
	return s.drone
}

// Gateway is [Server.Metrics] of a gateway's server.
func (s *Server) Gateway() *Gateway {
	if s == nil {
		return nil
	}
	return s.gateway
}

// healthz says whether the role should be left alone.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	var err error
	if role := s.probes(); role != nil {
		err = role.alive()
	}
	answer(w, "alive", err)
}

// readyz says whether the role answers requests.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	err, changed := s.ready.look(r.Context(), s.probes())
	switch {
	case changed && err != nil:
		s.log.Warn("not ready", "err", err)
	case changed:
		s.log.Info("ready")
	}
	answer(w, "ready", err)
}

func answer(w http.ResponseWriter, fine string, err error) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	line := fine
	if err != nil {
		line = "not " + fine + ": " + strings.ReplaceAll(err.Error(), "\n", " ")
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_, _ = io.WriteString(w, line+"\n")
}

// readiness asks the role once for all who want to know at about the same time.
type readiness struct {
	mu    sync.Mutex
	known bool
	at    time.Time
	err   error
}

var errStarting = errors.New("starting: waiting for NATS")

func (r *readiness) look(ctx context.Context, role *probes) (err error, changed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known && time.Since(r.at) < readyFor {
		return r.err, false
	}
	err = errStarting
	if role != nil {
		// Not the asker's context: the answer is for others too.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readyTimeout)
		defer cancel()
		err = role.ready(ctx)
	}
	changed = r.known && (err == nil) != (r.err == nil)
	r.known, r.at, r.err = true, time.Now(), err
	return err, changed
}
