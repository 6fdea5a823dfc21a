package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/metrics"
	"github.com/jetway-project/jetway/messages"
	"github.com/jetway-project/jetway/messages/client"
)

// Gateway answers HTTP. Make one with [New].
type Gateway struct {
	cfg     Config
	log     *slog.Logger
	nc      *nats.Conn
	hub     *hub
	spaces  spaces
	metrics *metrics.Gateway
	origins *http.CrossOriginProtection

	tokens     atomic.Pointer[map[string]*who]
	tokensRead []byte
	tokensSeen []byte // at the last look
	forwarding *http.Client
	listing    atomic.Int32 // answers that go through all pages, under way

	openAPI  []byte
	began    time.Time
	connects connects
	running  sync.WaitGroup // streams that have left their handlers
	ready    readiness
}

// New makes a gateway; it serves nothing before Run. The file of tokens is read here, and must be good.
func New(cfg Config) (*Gateway, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	g := &Gateway{cfg: cfg, log: cfg.Log, metrics: cfg.Metrics.Gateway(), began: time.Now(), connects: connects{refused: make(map[messages.Kind]uint64)}, origins: http.NewCrossOriginProtection()}
	g.hub = newHub(cfg.MaxStreams, g.metrics.Cut)
	if cfg.TokensFile != "" {
		if err := g.loadTokens(); err != nil {
			return nil, err
		}
	}
	if cfg.ForwardAuth != "" {
		g.forwarding = &http.Client{
			Transport:     &http.Transport{MaxIdleConnsPerHost: 64, IdleConnTimeout: time.Minute, ResponseHeaderTimeout: forwardTimeout},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	var err error
	g.openAPI, err = describe(cfg.Version)
	return g, err
}

// ballast is memory that nobody touches, and so is none of the machine's. Go collects garbage whenever as much as what lives has been
// added, and of a gateway little lives: it would collect every thousand requests, and spend an eighth of its time on it.
var ballast = sync.OnceValue(func() []byte { return make([]byte, 32<<20) })

// Run serves until ctx ends; it returns when nothing is left. It is called once.
func (g *Gateway) Run(ctx context.Context, nc *nats.Conn) error {
	g.nc = nc
	defer runtime.KeepAlive(ballast())
	g.metrics.Show(metrics.GatewaySource{Name: g.cfg.Name, Version: g.cfg.Version, Ready: g.ready.look(g), Connected: nc.IsConnected})
	var parts sync.WaitGroup
	defer parts.Wait()
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	parts.Go(func() { g.hub.run(serving, nc) })
	if g.cfg.TokensFile != "" {
		parts.Go(func() { g.watchTokens(serving) })
	}
	if g.forwarding != nil {
		defer g.forwarding.CloseIdleConnections()
	}
	server := &http.Server{
		Handler:        g.handler(),
		TLSConfig:      g.cfg.TLS,
		Protocols:      protocols(),
		ReadTimeout:    g.cfg.waits.read,
		WriteTimeout:   g.cfg.waits.read + maxTimeout + g.cfg.waits.write, // streams have bounds of their own
		IdleTimeout:    g.cfg.waits.idle,
		MaxHeaderBytes: 16 << 10,
		ErrorLog:       slog.NewLogLogger(g.log.Handler(), slog.LevelDebug),
		BaseContext:    func(net.Listener) context.Context { return serving },
	}
	served := make(chan error, 1)
	go func() {
		if g.cfg.TLS != nil {
			served <- server.ServeTLS(g.cfg.Listener, "", "")
			return
		}
		served <- server.Serve(g.cfg.Listener)
	}()
	g.log.Info("serving", "address", g.cfg.Listener.Addr().String(), "url", g.cfg.URL)
	if g.cfg.OnReady != nil {
		g.cfg.OnReady()
	}
	var err error
	select {
	case err = <-served:
		err = fmt.Errorf("serve on %s: %w", g.cfg.Listener.Addr(), err)
	case <-ctx.Done():
	}
	// Streams first, for they do not end by themselves: their clients go on at another gateway.
	g.hub.close()
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), g.cfg.waits.drain)
	defer cancel()
	if server.Shutdown(limit) != nil {
		stop()
		_ = server.Close()
	}
	stop()
	g.running.Wait()
	if err == nil {
		<-served
	}
	return err
}

// handler finds the route of a request.
func (g *Gateway) handler() http.Handler {
	mux := http.NewServeMux()
	paths := make(map[string]map[string]*route)
	for i := range routes {
		rt := &routes[i]
		if paths[rt.path] == nil {
			paths[rt.path] = make(map[string]*route)
		}
		paths[rt.path][rt.method] = rt
	}
	for path, methods := range paths {
		pattern := path
		if path == "/" {
			pattern = "/{$}"
		}
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { g.serve(w, r, path, methods) })
	}
	mux.HandleFunc("/", g.unknown)
	return mux
}

// readiness asks once for all who want to know at about the same time.
type readiness struct {
	mu  sync.Mutex
	at  time.Time
	err error
}

// look gives what asks a worker.
func (r *readiness) look(g *Gateway) func(context.Context) error {
	return func(ctx context.Context) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		if !r.at.IsZero() && time.Since(r.at) < time.Second {
			return r.err
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		_, r.err = client.Request[messages.DronesResponse](ctx, g.nc, messages.SubjectDrones, messages.DronesRequest{Page: messages.Page{Limit: 1}})
		r.at = time.Now()
		if refused, ok := errors.AsType[*messages.Error](r.err); ok && refused.Kind == messages.Overloaded {
			r.err = nil // it answers
		}
		return r.err
	}
}
