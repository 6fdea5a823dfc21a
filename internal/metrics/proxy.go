package metrics

import (
	"context"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const proxyPrefix = "jetway_proxy_"

// Lookup is how finding out where a token leads went.
type Lookup int

// The outcomes of a lookup. The first and the last cost no worker anything.
const (
	LookupRemembered Lookup = iota // the route was known
	LookupFound                    // a worker said where
	LookupNowhere                  // a worker said that it leads nowhere
	LookupFailed                   // no worker answered in time
	LookupRefused                  // it was not asked for: known to lead nowhere, or the client has asked for too many
	lookups
)

var lookupNames = [lookups]string{"remembered", "found", "nowhere", "failed", "refused"}

// Cut is why the proxy ended something that was open.
type Cut int

// The causes.
const (
	CutRevoked Cut = iota // its token was revoked
	CutEnded              // its backend has ended
	CutDrained            // the proxy ended
	cuts
)

var cutNames = [cuts]string{"revoked", "ended", "drained"}

// addedBuckets are in seconds.
var addedBuckets = []float64{.000025, .00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5}

// Proxy is what one proxy counts. Safe for use by several goroutines.
type Proxy struct {
	backends  [10]prometheus.Counter // by the first digit of the status
	abandoned prometheus.Counter
	own       *prometheus.CounterVec
	added     prometheus.Histogram
	asked     prometheus.Histogram
	lookups   [lookups]prometheus.Counter
	cuts      [cuts]prometheus.Counter

	source atomic.Pointer[ProxySource]
	certs  certReader
}

// ownStatuses are those that the proxy gives by itself.
var ownStatuses = []int{200, 301, 307, 400, 403, 410, 429, 502, 503, 504}

// NewProxy makes the metrics of a proxy and registers them with reg; with nil they
// are counted but shown to nobody. It panics when reg has them already.
func NewProxy(reg prometheus.Registerer) *Proxy {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: proxyPrefix + name, Help: help}, labels)
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: proxyPrefix + name, Help: help, Buckets: buckets})
	}
	requests := counter("requests_total", "Requests, by who answered (backend or proxy) and the status: of backends its class; abandoned when nobody did.", "by", "status")
	lookups := counter("route_lookups_total", "Times that it was to be found out where a token leads, by how that went.", "outcome")
	cut := counter("cut_total", "Requests and upgraded connections that were ended by force, by cause.", "cause")
	p := &Proxy{
		own:       requests,
		abandoned: requests.WithLabelValues("", "abandoned"),
		added:     histogram("added_seconds", "What the proxy added to a request: from its head's arrival until it was sent to the backend, and from the arrival of the response's head until it was passed on. Waiting for a backend to get ready is left out.", addedBuckets),
		asked:     histogram("route_lookup_seconds", "From asking a worker where a token leads to its answer.", secondsBuckets),
	}
	for class := 1; class < len(p.backends); class++ {
		name := strconv.Itoa(class) + "xx"
		if class > 5 {
			name = "other"
		}
		p.backends[class] = requests.WithLabelValues("backend", name)
	}
	for _, status := range ownStatuses {
		requests.WithLabelValues("proxy", strconv.Itoa(status))
	}
	for i, name := range lookupNames {
		p.lookups[i] = lookups.WithLabelValues(name)
	}
	for i, name := range cutNames {
		p.cuts[i] = cut.WithLabelValues(name)
	}
	if reg != nil {
		reg.MustRegister(requests, lookups, cut, p.added, p.asked, (*proxyReader)(p), &p.certs)
	}
	return p
}

// Forwarded counts a request that a backend answered, with a status from 100 to 999,
// and what the proxy added to it.
func (p *Proxy) Forwarded(status int, added time.Duration) {
	p.backends[status/100].Inc()
	p.added.Observe(added.Seconds())
}

// Answered counts a request that the proxy answered by itself.
func (p *Proxy) Answered(status int) {
	p.own.WithLabelValues("proxy", strconv.Itoa(status)).Inc()
}

// Abandoned counts a request that got no answer: its client left, or it was cut.
func (p *Proxy) Abandoned() { p.abandoned.Inc() }

// Looked counts a lookup.
func (p *Proxy) Looked(l Lookup) { p.lookups[l].Inc() }

// Asked counts a question that a worker was asked.
func (p *Proxy) Asked(took time.Duration) { p.asked.Observe(took.Seconds()) }

// Cut counts n things that were ended by force.
func (p *Proxy) Cut(c Cut, n int) { p.cuts[c].Add(float64(n)) }

// ProxySource is where a running proxy is read. All of its functions are required.
type ProxySource struct {
	Name, Version string
	// Now gives what is shown of this moment. It must not wait.
	Now func() ProxySnapshot
	// Ready says, in one line for people, why browsers should be sent elsewhere; nil:
	// they need not. It may ask a worker until ctx ends.
	Ready func(ctx context.Context) error
}

// ProxySnapshot is what was read of a proxy.
type ProxySnapshot struct {
	// Connections are those of clients, upgraded ones left out.
	Connections int
	// Requests are under way, Held of them wait for a backend to get ready, and
	// Upgraded are WebSockets and the like.
	Requests, Held, Upgraded int
	// Routes are remembered.
	Routes int
	// Connected and Reconnects are the NATS connection's.
	Connected  bool
	Reconnects uint64
}

// Show has the proxy shown from now on: its gauges and its probes.
func (p *Proxy) Show(s ProxySource) { p.source.Store(&s) }

func (p *Proxy) probes() *probes {
	s := p.source.Load()
	if s == nil {
		return nil
	}
	return &probes{alive: func() error { return nil }, ready: s.Ready}
}

func proxyDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(proxyPrefix+name, help, labels, nil)
}

var (
	descProxyInfo        = proxyDesc("info", "1 for this proxy.", "proxy", "version")
	descProxyConnections = proxyDesc("client_connections", "Open connections of clients, upgraded ones left out.")
	descProxyOpen        = proxyDesc("open_requests", "Requests under way, by state: held until their backend is ready, upgraded (WebSockets and the like), or other.", "state")
	descProxyRoutes      = proxyDesc("routes", "Routes that are remembered.")
	descProxyConnected   = proxyDesc("nats_connected", "1 while connected to NATS, else 0.")
	descProxyReconnects  = proxyDesc("nats_reconnects_total", "Times that a lost NATS connection came back.")
)

// proxyReader collects what is read of the proxy when somebody asks.
type proxyReader Proxy

func (r *proxyReader) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descProxyInfo, descProxyConnections, descProxyOpen, descProxyRoutes, descProxyConnected, descProxyReconnects,
	} {
		out <- d
	}
}

func (r *proxyReader) Collect(out chan<- prometheus.Metric) {
	source := r.source.Load()
	if source == nil {
		return
	}
	now := source.Now()
	gauge := func(d *prometheus.Desc, v int, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	gauge(descProxyInfo, 1, source.Name, source.Version)
	gauge(descProxyConnections, now.Connections)
	gauge(descProxyOpen, now.Held, "held")
	gauge(descProxyOpen, now.Upgraded, "upgraded")
	gauge(descProxyOpen, max(0, now.Requests-now.Held-now.Upgraded), "other")
	gauge(descProxyRoutes, now.Routes)
	connected := 0
	if now.Connected {
		connected = 1
	}
	gauge(descProxyConnected, connected)
	out <- prometheus.MustNewConstMetric(descProxyReconnects, prometheus.CounterValue, float64(now.Reconnects))
}
