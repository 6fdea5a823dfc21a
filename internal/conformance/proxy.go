package conformance

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"github.com/jetway-project/jetway/messages"
)

// Proxy says what is tested. Name and URL have no default.
type Proxy struct {
	Name string
	// URL is where the proxy is reached from here.
	URL string
	// Cluster is the host, or host:port, that routes say; that of URL.
	Cluster string
	// Listen is where the kit's own backends listen, which the proxy must reach; 127.0.0.1:0.
	Listen string
	// Keepalive is how often the proxy says who is connected, at most; 10 s.
	Keepalive time.Duration
	// Trust is how long it may use what it was told before; 40 s, well below the minute for which a port rests.
	Trust time.Duration
	// Wait is how long everything else may take; 30 s.
	Wait time.Duration
	// Only are the checks to try, with those that they build on; none: all.
	Only []string
	// Say is told each result as it comes.
	Say func(Result)
}

// ProxyChecks are the checks of a proxy, in their order.
func ProxyChecks() []Check { return checksOf(proxyTable) }

// proxyTrust is what is well below the minute for which a drone leaves a port unused.
const proxyTrust = 40 * time.Second

// Run plays the workers, and the backends, to the proxy until all checks were tried. The error is of what kept it from that.
func (p Proxy) Run(ctx context.Context, nc *nats.Conn) error {
	if p.Wait == 0 {
		p.Wait = 30 * time.Second
	}
	if p.Keepalive == 0 {
		p.Keepalive = 10 * time.Second
	}
	if p.Trust == 0 {
		p.Trust = proxyTrust
	}
	at, err := url.Parse(p.URL)
	if err != nil || at.Host == "" || at.Scheme != "http" && at.Scheme != "https" {
		return fmt.Errorf("the proxy's URL must be like http://127.0.0.1:9090, not %q", p.URL)
	}
	if p.Cluster == "" {
		p.Cluster = at.Host
	}
	if p.Listen == "" {
		p.Listen = "127.0.0.1:0"
	}
	table, err := only(proxyTable, p.Only)
	if err != nil {
		return err
	}
	common, err := newBench(nc, p.Name, p.Wait)
	if err != nil {
		return err
	}
	if err := common.alone(ctx, messages.RouteSubject(p.Name)); err != nil {
		return err
	}
	if err := common.prepare(ctx); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", p.Listen)
	if err != nil {
		return fmt.Errorf("listen as a backend: %w", err)
	}
	// The name in the URL is where to connect, the cluster what to ask for.
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		address := at.Host
		if at.Port() == "" {
			address = net.JoinHostPort(at.Hostname(), map[string]string{"http": "80", "https": "443"}[at.Scheme])
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	b := &proxyBench{
		bench: common, cfg: p, scheme: at.Scheme, address: listener.Addr().String(), routes: map[string]messages.RouteResponse{}, asked: map[string]int{}, refusing: map[string]*messages.Error{},
		visits: &http.Client{
			Transport:     &http.Transport{DialContext: dial, DisableKeepAlives: true, DisableCompression: true},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	server := &http.Server{Handler: http.HandlerFunc(b.serve), ReadHeaderTimeout: time.Minute}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener)
	}()
	defer func() {
		_ = server.Close()
		<-served
	}()
	defer b.close()
	if err := b.answer(messages.RouteSubject(p.Name), b.onRoute); err != nil {
		return err
	}
	if err := b.answer(messages.KeepaliveSubject(p.Name), b.onKeepalive); err != nil {
		return err
	}
	return runTable(ctx, table, b, p.Say)
}

// proxyBench is the workers' part, and that of the backends.
type proxyBench struct {
	*bench
	cfg     Proxy
	scheme  string
	address string // of the backends
	visits  *http.Client

	// Under the lock:
	silent     bool
	routes     map[string]messages.RouteResponse // by token
	refusing   map[string]*messages.Error        // by token
	asked      map[string]int                    // by token
	keepalives []keepalive
	hits       []hit
}

type keepalive struct {
	messages.KeepaliveRequest
	at time.Time
}

// idle gives what a keepalive says of a backend.
func (k *keepalive) idle(backend string) (ms int64, named bool) {
	n := slices.Index(k.Backends, backend)
	if n < 0 {
		return 0, false
	}
	if n < len(k.IdleMS) {
		ms = k.IdleMS[n]
	}
	return ms, true
}

// hit is a request that got to a backend.
type hit struct {
	path   string
	header http.Header
}

func (b *proxyBench) onRoute(data []byte) (any, error) {
	req, err := messages.Decode[messages.RouteRequest](data)
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.observed.tellLocked()
	if err != nil {
		b.faultLocked("payloads", "a question for a route: %v", err)
		return nil, err
	}
	b.asked[req.Token]++
	route, known := b.routes[req.Token]
	switch refused := b.refusing[req.Token]; {
	case b.silent:
		return nil, nil
	case refused != nil:
		return nil, refused
	case !known:
		return nil, messages.Errorf(messages.NotFound, "no such token")
	}
	return route, nil
}

func (b *proxyBench) onKeepalive(data []byte) (any, error) {
	req, err := messages.Decode[messages.KeepaliveRequest](data)
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.observed.tellLocked()
	if err != nil {
		b.faultLocked("payloads", "a keepalive: %v", err)
		return nil, err
	}
	b.keepalives = append(b.keepalives, keepalive{req, time.Now()})
	if b.silent {
		return nil, nil
	}
	return messages.Empty{}, nil
}

// serve is every backend. Below /stream it says one line and goes on until the visitor or the proxy ends it.
func (b *proxyBench) serve(w http.ResponseWriter, r *http.Request) {
	b.set(func() { b.hits = append(b.hits, hit{r.URL.RequestURI(), r.Header.Clone()}) })
	_, _ = io.WriteString(w, "hello\n")
	if r.URL.Path != "/stream" {
		return
	}
	_ = http.NewResponseController(w).Flush()
	<-r.Context().Done()
}

// lead makes a token that leads to a new backend, which is ready; change alters the route.
func (b *proxyBench) lead(what string, change ...func(*messages.RouteResponse)) (token, backend string) {
	var raw [32]byte
	_, _ = rand.Read(raw[:])
	token, backend = base64.RawURLEncoding.EncodeToString(raw[:]), "cf-"+b.run+"-"+what
	route := messages.RouteResponse{BackendID: backend, Status: messages.Ready, Address: b.address, Cluster: b.cfg.Cluster, User: "Zoë", SecretToken: "secret", ValidForMS: 3_600_000}
	for _, c := range change {
		c(&route)
	}
	b.set(func() { b.routes[token] = route })
	return token, backend
}

// got is what a visitor got.
type got struct {
	status int
	body   string
	hit    bool // the request got to a backend
}

func (g got) String() string {
	if g.hit {
		return fmt.Sprintf("%d, from the backend", g.status)
	}
	return fmt.Sprintf("%d: %.200s", g.status, g.body)
}

func (b *proxyBench) request(ctx context.Context, path string, header ...string) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.scheme+"://"+b.cfg.Cluster+path, nil)
	if err != nil {
		return nil, err
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header[header[i]] = []string{header[i+1]} // in this very writing
	}
	return req, nil
}

// visit requests a path, and says whether it got to a backend.
func (b *proxyBench) visit(ctx context.Context, path string, header ...string) (got, error) {
	ctx, cancel := context.WithTimeout(ctx, b.wait)
	defer cancel()
	b.mu.Lock()
	before := len(b.hits)
	b.mu.Unlock()
	req, err := b.request(ctx, path, header...)
	if err != nil {
		return got{}, err
	}
	resp, err := b.visits.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return got{}, errNot(b.wait, "an answer to GET %s", path)
		}
		return got{}, fmt.Errorf("GET %s: %w", path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	b.mu.Lock()
	defer b.mu.Unlock()
	return got{status: resp.StatusCode, body: string(body), hit: len(b.hits) > before}, err
}

// wants visits, and fails where the answer is another one.
func (b *proxyBench) wants(ctx context.Context, token string, status int) error {
	g, err := b.visit(ctx, "/"+token+"/")
	if err == nil && (g.status != status || g.hit != (status == http.StatusOK)) {
		return fmt.Errorf("the visitor got %s; want %d", g, status)
	}
	return err
}

// stream opens a response that goes on; ended is closed when it does not. The caller closes it.
func (b *proxyBench) stream(ctx context.Context, token string) (ended <-chan struct{}, leave func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	req, err := b.request(ctx, "/"+token+"/stream")
	if err != nil {
		cancel()
		return nil, nil, err
	}
	opening := time.AfterFunc(b.wait, cancel)
	resp, err := b.visits.Do(req) //nolint:bodyclose // who opens it reads it to its end, and then closes it
	first := make([]byte, 1)
	if err == nil {
		_, err = io.ReadFull(resp.Body, first)
	}
	if !opening.Stop() || err != nil || resp.StatusCode != http.StatusOK {
		cancel()
		if resp != nil {
			_ = resp.Body.Close()
		}
		if err == nil {
			err = fmt.Errorf("its status is %d", resp.StatusCode)
		}
		return nil, nil, fmt.Errorf("a response of a backend that goes on: %w", err)
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}()
	return over, func() { cancel(); <-over }, nil
}

// state publishes what a worker publishes when a backend has reached a status.
func (b *proxyBench) state(ctx context.Context, backend string, status messages.Status) error {
	event := messages.NewStateEvent(backend, time.Now(), messages.State{Status: status})
	return b.tell(ctx, messages.BackendEventSubject(backend), event.ID, event)
}

func (b *proxyBench) revoked(ctx context.Context, event messages.TokenEvent) error {
	event.Type, event.ID, event.Time = messages.TypeTokenRevoked, event.BackendID+".revoked-"+nuid.Next(), time.Now().UTC()
	return b.tell(ctx, messages.TokenEventSubject(event.BackendID), event.ID, event)
}

// tell publishes an event with its id, as workers do.
func (b *proxyBench) tell(ctx context.Context, subject, id string, event any) error {
	ctx, cancel := context.WithTimeout(ctx, b.wait)
	defer cancel()
	msg := nats.NewMsg(subject)
	msg.Header.Set(messages.HeaderMessageID, id)
	msg.Data = b.encode(event)
	if _, err := b.js.PublishMsg(ctx, msg); err != nil {
		return fmt.Errorf("publish on %s: %w", subject, err)
	}
	return nil
}

// closed waits until something is.
func (b *proxyBench) closed(ctx context.Context, over <-chan struct{}) bool {
	limit := time.NewTimer(b.wait)
	defer limit.Stop()
	select {
	case <-over:
		return true
	case <-limit.C:
	case <-ctx.Done():
	}
	return false
}
