package metrics

import (
	"context"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const gatewayPrefix = "jetway_gateway_"

// Gateway is what one gateway counts. Safe for use by several goroutines.
type Gateway struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	streams  prometheus.Gauge
	cut      prometheus.Counter
	source   atomic.Pointer[GatewaySource]
}

// GatewaySource is where a running gateway is read. All of its functions are required.
type GatewaySource struct {
	Name, Version string
	// Ready says, in one line for people, why clients should be sent elsewhere; nil: they need not.
	Ready func(ctx context.Context) error
	// Connected says whether the NATS server is there.
	Connected func() bool
}

// NewGateway makes the metrics of a gateway and registers them with reg; with nil they are counted but shown to nobody.
// It panics when reg has them already.
func NewGateway(reg prometheus.Registerer) *Gateway {
	g := &Gateway{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: gatewayPrefix + "requests_total", Help: "Requests that were answered, streams once they have ended, by route and status."}, []string{"route", "status"}),
		seconds:  prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: gatewayPrefix + "request_seconds", Help: "From a request's head to its answer; of streams to their end.", Buckets: secondsBuckets}, []string{"route"}),
		streams:  prometheus.NewGauge(prometheus.GaugeOpts{Name: gatewayPrefix + "streams", Help: "Open streams of events and lines."}),
		cut:      prometheus.NewCounter(prometheus.CounterOpts{Name: gatewayPrefix + "streams_cut_total", Help: "Streams that were cut because their client did not read."}),
	}
	if reg != nil {
		reg.MustRegister(g.requests, g.seconds, g.streams, g.cut, (*gatewayReader)(g))
	}
	return g
}

// Answered counts a request.
func (g *Gateway) Answered(route string, status int, took time.Duration) {
	g.requests.WithLabelValues(route, strconv.Itoa(status)).Inc()
	g.seconds.WithLabelValues(route).Observe(took.Seconds())
}

// Streams counts streams that begin (1) and end (-1).
func (g *Gateway) Streams(n int) { g.streams.Add(float64(n)) }

// Cut counts a stream that was cut.
func (g *Gateway) Cut() { g.cut.Inc() }

// Show has the gateway shown from now on.
func (g *Gateway) Show(s GatewaySource) { g.source.Store(&s) }

func (g *Gateway) probes() *probes {
	s := g.source.Load()
	if s == nil {
		return nil
	}
	return &probes{alive: func() error { return nil }, ready: s.Ready}
}

var (
	descGatewayInfo      = prometheus.NewDesc(gatewayPrefix+"info", "1 for this gateway.", []string{"gateway", "version"}, nil)
	descGatewayConnected = prometheus.NewDesc(gatewayPrefix+"nats_connected", "1 while connected to NATS, else 0.", nil, nil)
)

// gatewayReader collects what is read of the gateway when somebody asks.
type gatewayReader Gateway

func (r *gatewayReader) Describe(out chan<- *prometheus.Desc) {
	out <- descGatewayInfo
	out <- descGatewayConnected
}

func (r *gatewayReader) Collect(out chan<- prometheus.Metric) {
	source := r.source.Load()
	if source == nil {
		return
	}
	out <- prometheus.MustNewConstMetric(descGatewayInfo, prometheus.GaugeValue, 1, source.Name, source.Version)
	connected := 0.0
	if source.Connected() {
		connected = 1
	}
	out <- prometheus.MustNewConstMetric(descGatewayConnected, prometheus.GaugeValue, connected)
}
