package metrics

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Certificates is what was read of the certificates that a proxy serves https with.
type Certificates struct {
	// Until is when those in use end, by their name.
	Until map[string]time.Time
	// Got and Failed are what this proxy ordered of an authority.
	Got, Failed uint64
}

var (
	descCertUntil  = proxyDesc("certificate_until_timestamp_seconds", "When a certificate in use ends, in seconds since 1970.", "name")
	descCertOrders = proxyDesc("certificate_orders_total", "Certificates that this proxy ordered of an authority: got or failed.", "outcome")
)

// ShowCertificates has the certificates shown from now on: read must not wait. On nil
// it does nothing.
func (p *Proxy) ShowCertificates(read func() Certificates) {
	if p != nil {
		p.certs.read.Store(&read)
	}
}

// certReader collects what is read of certificates when somebody asks.
type certReader struct {
	read atomic.Pointer[func() Certificates]
}

func (r *certReader) Describe(out chan<- *prometheus.Desc) {
	out <- descCertUntil
	out <- descCertOrders
}

func (r *certReader) Collect(out chan<- prometheus.Metric) {
	read := r.read.Load()
	if read == nil {
		return
	}
	now := (*read)()
	for name, until := range now.Until {
		out <- prometheus.MustNewConstMetric(descCertUntil, prometheus.GaugeValue, float64(until.Unix()), name)
	}
	out <- prometheus.MustNewConstMetric(descCertOrders, prometheus.CounterValue, float64(now.Got), "got")
	out <- prometheus.MustNewConstMetric(descCertOrders, prometheus.CounterValue, float64(now.Failed), "failed")
}
