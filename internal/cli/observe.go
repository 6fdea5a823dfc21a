package cli

import (
	"github.com/jetway-project/jetway/internal/metrics"
	"github.com/jetway-project/jetway/internal/tracing"
)

// metricsFlags say where a worker or proxy shows its metrics and health.
type metricsFlags struct {
	MetricsAddr string `placeholder:"[HOST]:PORT" help:"Address on which to serve /metrics for Prometheus, /healthz and /readyz. Default: none."`
}

// serve gives the server, nil when there is to be none. The caller closes.
func (f *metricsFlags) serve(r *run) (*metrics.Server, error) {
	if f.MetricsAddr == "" {
		return nil, nil
	}
	server, err := metrics.Start(f.MetricsAddr, r.log)
	if err != nil {
		return nil, badFlag("--metrics-addr", err)
	}
	return server, nil
}

// serveProxy is serve for a proxy.
func (f *metricsFlags) serveProxy(r *run) (*metrics.Server, error) {
	if f.MetricsAddr == "" {
		return nil, nil
	}
	server, err := metrics.StartProxy(f.MetricsAddr, r.log)
	if err != nil {
		return nil, badFlag("--metrics-addr", err)
	}
	return server, nil
}

// serveDrone is serve for a drone.
func (f *metricsFlags) serveDrone(r *run) (*metrics.Server, error) {
	if f.MetricsAddr == "" {
		return nil, nil
	}
	server, err := metrics.StartDrone(f.MetricsAddr, r.log)
	if err != nil {
		return nil, badFlag("--metrics-addr", err)
	}
	return server, nil
}

// serveGateway is serve for a gateway. It always gives a server, because the gateway shows the metrics at its own address, too.
func (f *metricsFlags) serveGateway(r *run) (*metrics.Server, error) {
	server, err := metrics.StartGateway(f.MetricsAddr, r.log)
	if err != nil {
		return nil, badFlag("--metrics-addr", err)
	}
	return server, nil
}

// traceFlags say where spans go.
type traceFlags struct {
	OTLPEndpoint string `name:"otlp-endpoint" env:"OTEL_EXPORTER_OTLP_ENDPOINT" placeholder:"URL" help:"OpenTelemetry collector that gets traces, by OTLP over HTTP, such as http://127.0.0.1:4318. Default: none."`
}

// open gives a tracer, nil when there is to be none. The caller closes.
func (f *traceFlags) open(r *run, role, name string) (*tracing.Tracer, error) {
	tracer, err := tracing.Open(r.ctx, tracing.Config{
		Endpoint: f.OTLPEndpoint, Role: role, Name: name, Version: version(), Log: r.log,
	})
	if err != nil {
		return nil, badFlag("--otlp-endpoint", err)
	}
	return tracer, nil
}
