package proxy

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/messages"
)

const (
	readHeaderTimeout = 10 * time.Second
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 64 << 10
	// flushGrace is for what the last requests left to be sent.
	flushGrace = 500 * time.Millisecond
	// goodbyeTimeout bounds the last word to the workers.
	goodbyeTimeout = 2 * time.Second
)

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
	routes    *routes
	news      *news
	activity  *activity
	gate      *gate
	readiness readiness
	transport *http.Transport
	reverse   *httputil.ReverseProxy
	asks      sync.WaitGroup

	// Set by Run before anything is served.
	nc      *nats.Conn
	serving context.Context // ends when what is still open is to be cut

	dropped int // events that the NATS client threw away; the subscription's own
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
		routes:    newRoutes(cfg.RouteBytes),
		news:      newNews(),
		activity:  newActivity(),
		gate:      newGate(),
		transport: newTransport(cfg.DialTimeout),
	}
	p.reverse = p.newReverseProxy()
	return p, nil
}

// BusGap says that events may have been missed: all routes are forgotten, and
// who waits for a backend asks again. For bus.Config.OnReconnect.
func (p *Proxy) BusGap() {
	p.news.gap()
	p.routes.clear()
}

// Run serves until ctx ends. Then the listener is closed and new requests are
// refused; what is open may go on for the drain timeout and is cut after it,
// upgraded connections included. Run returns when nothing is left, nil unless it
// could not serve. It is called once; nc stays open and is the caller's.
func (p *Proxy) Run(ctx context.Context, nc *nats.Conn) error {
	defer func() { _ = p.cfg.Listener.Close() }()
	serving, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	p.nc, p.serving = nc, serving

	// Before the first question, so that no event after an answer is missed.
	events, err := nc.Subscribe(messages.SubjectAnyBackendEvent, p.heard)
	if err != nil {
		return fmt.Errorf("subscribe to the events of backends: %w", err)
	}
	defer func() { _ = events.Unsubscribe() }()
	revoked, err := nc.Subscribe(messages.SubjectAnyTokenEvent, p.heardRevoked)
	if err != nil {
		return fmt.Errorf("subscribe to the events of tokens: %w", err)
	}
	defer func() { _ = revoked.Unsubscribe() }()
	if err := nc.FlushTimeout(p.cfg.LookupTimeout); err != nil {
		// The client subscribes again when the server is back, and tells of the gap.
		p.log.WarnContext(ctx, "cannot reach the NATS server yet", "err", err)
	}

	var reporting sync.WaitGroup
	defer reporting.Wait()
	reportCtx, stopReporting := context.WithCancel(serving)
	defer stopReporting()
	reporting.Go(func() { p.reportKeepalives(reportCtx) })

	server := &http.Server{
		Handler:           http.HandlerFunc(p.serve),
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		BaseContext:       func(net.Listener) context.Context { return serving },
		ConnContext:       keepConn,
		ErrorLog:          slog.NewLogLogger(p.log.Handler(), slog.LevelWarn),
	}
	served := make(chan error, 1)
	var serveLoop sync.WaitGroup
	serveLoop.Go(func() { served <- server.Serve(p.cfg.Listener) })
	p.log.InfoContext(ctx, "serving", "address", p.cfg.Listener.Addr().String())
	p.cfg.OnReady()

	select {
	case <-ctx.Done():
		err = nil
	case err = <-served:
		err = fmt.Errorf("serve on %s: %w", p.cfg.Listener.Addr(), err)
	}
	p.drain(server, cut)
	serveLoop.Wait()
	stopReporting()
	reporting.Wait()
	p.sayGoodbye(ctx)
	return err
}

// drain ends what is open: by itself within the drain timeout, else by force.
func (p *Proxy) drain(server *http.Server, cut context.CancelFunc) {
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
	case <-time.After(flushGrace): // connections that browsers open ahead are not waited for
	}
	cancel()
	<-shut
	cut()
	_ = server.Close()
	<-p.gate.empty
	p.asks.Wait()
	p.transport.CloseIdleConnections()
}

// sayGoodbye reports the last connections, so that idle limits count from their end.
func (p *Proxy) sayGoodbye(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbyeTimeout)
	defer cancel()
	p.tell(ctx, p.activity.connected)
}

// heard takes in an event of a backend. The NATS client calls it for one event
// after the other.
func (p *Proxy) heard(msg *nats.Msg) {
	if dropped, err := msg.Sub.Dropped(); err == nil && dropped != p.dropped {
		// More came than could be taken in. What was thrown away came before what
		// was still queued then, so some event after it gets here.
		p.dropped = dropped
		p.log.Warn("events of backends were lost, all routes are forgotten", "dropped", dropped)
		p.BusGap()
	}
	if status, ok := messages.StatusOfEvent(msg.Header.Get(messages.HeaderMessageID)); ok && status < messages.Ready {
		return // nobody here waits for it
	}
	event, err := messages.Decode[messages.StateEvent](msg.Data)
	if err != nil {
		p.log.Debug("event ignored", "subject", msg.Subject, "err", err)
		return
	}
	// The news first: see answered.
	p.news.note(event.BackendID, event.Status)
	if event.Status == messages.Terminated {
		p.routes.dropBackend(event.BackendID)
	}
}

// heardRevoked takes in that tokens of a backend were revoked. An answer that is on
// its way may be from before: the gap keeps it from being remembered.
func (p *Proxy) heardRevoked(msg *nats.Msg) {
	if dropped, err := msg.Sub.Dropped(); err == nil && dropped != 0 {
		p.BusGap() // some such event was lost; they are rare, and so is this
	}
	event, err := messages.Decode[messages.TokenEvent](msg.Data)
	if err != nil {
		p.log.Debug("event ignored", "subject", msg.Subject, "err", err)
		return
	}
	p.news.gap()
	p.routes.dropRevoked(&event)
}
