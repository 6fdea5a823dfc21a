package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/metrics"
)

const maxHeaderBytes = 64 << 10

// Proxy is one proxy. It is made before its NATS connection, because that
// connection must know whom to tell of a gap:
//
//	px, err := proxy.New(cfg)
//	nc, err := bus.Connect(ctx, bus.Config{Name: cfg.Name, OnReconnect: px.BusGap, …})
//	err = px.Run(ctx, nc)
//	bus.Drain(nc, limit)
type Proxy struct {
	cfg       Config
	log       *slog.Logger
	metrics   *metrics.Proxy
	routes    *routes
	news      *news
	activity  *activity
	gate      *gate
	readiness readiness
	strangers *strangers
	upstream  *upstream
	asks      sync.WaitGroup
	splices   sync.WaitGroup
	held      *waiting // requests that wait for backends
	door      *door
	hatch     *hatch
	fullSaid  atomic.Int64 // when it was last said that no descriptors are left
	upgrades  atomic.Int64 // connections that were upgraded
	loops     []*loop      // that carry them, and plain requests
	turns     atomic.Uint32
	clients   atomic.Int64 // connections of the HTTP server
	draining  atomic.Bool
	gapped    chan struct{} // events may have been missed since it was last looked at

	endedMu sync.Mutex
	ended   map[string]time.Time // backends to which something is still open, and until when it may

	// Set by Run before anything is served.
	nc      *nats.Conn
	serving context.Context // ends when what is still open is to be cut

	// Events that the NATS client threw away; each its subscription's own.
	dropped, droppedRevoked int
}

// New makes a proxy. It listens to nobody before [Proxy.Run].
func New(cfg Config) (*Proxy, error) {
	cfg.setDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	p := &Proxy{
		cfg:       cfg,
		log:       cfg.Log.With("proxy", cfg.Name),
		metrics:   cfg.Metrics,
		routes:    newRoutes(cfg.RouteBytes, cfg.RouteTrust, cfg.clock),
		news:      newNews(),
		activity:  newActivity(),
		gate:      newGate(),
		held:      newWaiting(cfg.MaxHeld),
		strangers: newStrangers(),
		upstream:  newUpstream(cfg.DialTimeout),
		gapped:    make(chan struct{}, 1),
		ended:     make(map[string]time.Time),
	}
	p.hatch = newHatch(cfg.Listener.Addr())
	p.door = &door{Listener: cfg.Listener, p: p, of: make(map[netip.Addr]int)}
	return p, nil
}

// Run serves until ctx ends. Then /ready says 503, and after the drain delay the
// listener is closed and new requests are refused; what is open may go on for the
// drain timeout and is cut after it, upgraded connections included. Run returns when
// nothing is left, nil unless it could not serve. It is called once; nc stays open
// and is the caller's.
func (p *Proxy) Run(ctx context.Context, nc *nats.Conn) error {
	defer func() { _ = p.cfg.Listener.Close() }()
	serving, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	p.nc, p.serving = nc, serving
	deaf, err := p.listen(ctx)
	if err != nil {
		return err
	}
	defer deaf()
	service := p.service()
	if err := service.Announce(nc); err != nil {
		return err
	}
	defer func() { _ = service.Conceal() }()

	p.openLoops()
	var chores sync.WaitGroup
	defer chores.Wait()
	choreCtx, stopChores := context.WithCancel(serving)
	defer stopChores()
	chores.Go(func() { p.reportKeepalives(choreCtx) })
	chores.Go(func() { p.keepHouse(choreCtx) })
	chores.Go(func() { p.confirmOpen(choreCtx) })
	chores.Go(func() { p.warnOfNamesakes(choreCtx, service) })
	for _, l := range p.loops {
		chores.Go(l.run)
	}

	server := p.newServer()
	served := make(chan error, 1)
	var serveLoop sync.WaitGroup
	serveLoop.Go(func() { served <- p.serveOn(server) })
	if p.cfg.TLS == nil {
		serveLoop.Go(func() { _ = server.Serve(p.hatch) })
	}
	p.log.InfoContext(ctx, "serving", "address", p.cfg.Listener.Addr().String(), "tls", p.cfg.TLS != nil)
	p.show()
	p.cfg.OnReady()

	select {
	case <-ctx.Done():
		err = nil
		p.lameDuck(server, served)
	case err = <-served:
		err = fmt.Errorf("serve on %s: %w", p.cfg.Listener.Addr(), err)
	}
	p.drain(server, cut)
	for _, l := range p.loops {
		l.end()
	}
	serveLoop.Wait()
	stopChores()
	chores.Wait()
	p.asks.Wait() // nobody asks any more
	p.sayGoodbye(ctx)
	return err
}

// openLoops makes one loop for each core. Without any, requests and upgraded connections have goroutines.
func (p *Proxy) openLoops() {
	for range runtime.GOMAXPROCS(0) {
		l, err := newLoop(p)
		if errors.Is(err, errors.ErrUnsupported) {
			return
		}
		if err != nil {
			p.log.WarnContext(p.serving, "requests and upgraded connections go a slower way", "err", err)
			return
		}
		p.loops = append(p.loops, l)
	}
	p.upstream.loops = p.loops
}

// admit lets a loop have a client's connection. It says false when it is net/http's: what is over TLS, or is to be logged.
func (p *Proxy) admit(conn net.Conn, peer netip.Addr) bool {
	if p.cfg.TLS != nil || p.cfg.AccessLog {
		return false
	}
	l := p.nextLoop()
	return l != nil && l.admit(conn, peer)
}

// nextLoop gives each loop in its turn, nil if there is none.
func (p *Proxy) nextLoop() *loop {
	if len(p.loops) == 0 {
		return nil
	}
	return p.loops[p.turns.Add(1)%uint32(len(p.loops))]
}

func (p *Proxy) newServer() *http.Server {
	return &http.Server{
		Handler:           http.HandlerFunc(p.serve),
		TLSConfig:         p.cfg.TLS.Clone(),
		ReadHeaderTimeout: p.cfg.waits.head,
		IdleTimeout:       p.cfg.IdleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ConnState:         p.countClients,
		ConnContext:       handedContext,
		BaseContext:       func(net.Listener) context.Context { return p.serving },
		// What clients do wrong in their handshakes and requests is no news.
		ErrorLog: slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),
	}
}

func (p *Proxy) serveOn(server *http.Server) error {
	if p.cfg.TLS != nil {
		return server.ServeTLS(p.door, "", "")
	}
	return server.Serve(p.door)
}

// lameDuck serves a moment longer, so that who sends browsers here has time to see
// that /ready is 503. Connections end with their next response.
func (p *Proxy) lameDuck(server *http.Server, served <-chan error) {
	p.draining.Store(true)
	p.clearLoops()
	if p.cfg.DrainDelay <= 0 || p.cfg.DrainTimeout < 0 {
		return
	}
	p.log.Info("draining: new requests are still served for a moment", "moment", p.cfg.DrainDelay)
	server.SetKeepAlivesEnabled(false)
	timer := time.NewTimer(p.cfg.DrainDelay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-served:
	}
}

// clearLoops has net/http answer what is under way in loops and has not been answered.
func (p *Proxy) clearLoops() {
	for _, l := range p.loops {
		l.clear()
	}
}

// drain ends what is open: by itself within the drain timeout, else by force.
func (p *Proxy) drain(server *http.Server, cut context.CancelFunc) {
	p.clearLoops()
	p.gate.close()
	limit, cancel := context.WithTimeout(context.Background(), max(0, p.cfg.DrainTimeout))
	defer cancel()
	shut := make(chan struct{})
	go func() {
		defer close(shut)
		// Closes the listener and idle connections, and waits for the others,
		// upgraded ones excepted: the gate counts those.
		_ = server.Shutdown(limit)
	}()
	select {
	case <-p.gate.empty:
	case <-limit.Done():
	}
	select {
	case <-shut:
	case <-time.After(p.cfg.waits.flush): // connections that browsers open ahead are not waited for
	}
	cancel()
	<-shut
	cut()
	p.cut(metrics.CutDrained, p.activity.allPassages())
	select {
	case <-p.gate.empty:
	case <-time.After(2 * p.cfg.waits.linger): // tunnels, which are the server's, say why they end
	}
	_ = server.Close()
	<-p.gate.empty
	p.splices.Wait()
	p.upstream.close()
}

// sayGoodbye reports the last connections, so that idle limits count from their end.
func (p *Proxy) sayGoodbye(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.cfg.waits.goodbye)
	defer cancel()
	p.tell(ctx, p.activity.connected, false)
}

// manyMore says that so many connections were upgraded since there were before that the garbage they left is worth collecting.
// Nobody else does so soon, for what is idle makes none. As it grows with what is open, it costs each of those the same.
func manyMore(before, open int64) bool { return open-before >= max(256, open/4) }

// keepHouse closes what has been idle for too long, and what is left of backends that
// have ended, until ctx ends.
func (p *Proxy) keepHouse(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var swept int64
	for {
		select {
		case now := <-tick.C:
			if open := p.upgrades.Load(); manyMore(swept, open) {
				debug.FreeOSMemory()
				swept = open
			} else {
				swept = min(swept, open)
			}
			p.upstream.sweep(now.Add(-p.cfg.waits.idle))
			p.cutEnded(now)
			for _, l := range p.loops {
				l.sweepCallers(now)
			}
		case <-ctx.Done():
			return
		}
	}
}
