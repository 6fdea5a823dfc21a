package tracing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// closeTimeout bounds the sending of the last spans.
const closeTimeout = 2 * time.Second

// Environment variables of OpenTelemetry that decide whether there are traces.
const (
	envTracesEndpoint = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" // the whole URL; overrules the flag
	envDisabled       = "OTEL_SDK_DISABLED"
)

// Config says who makes spans and where they go.
type Config struct {
	// Endpoint is the base URL of an OTLP/HTTP collector, to which /v1/traces is
	// added, as in OTEL_EXPORTER_OTLP_ENDPOINT. "" turns traces off, unless
	// OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is set.
	Endpoint string
	// Role is worker or drone: the service is jetway-<role>, unless OTEL_SERVICE_NAME
	// says otherwise. Name is the one on the bus, and Version this build's.
	Role, Name, Version string
	Log                 *slog.Logger
}

// Tracer makes spans; nil makes none.
type Tracer struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
}

// Open gives a tracer: nil, without an error, when traces are off. It connects to
// nothing: a collector that is away shows in the log when there are spans to send.
func Open(ctx context.Context, cfg Config) (*Tracer, error) {
	endpoint := strings.TrimRight(cfg.Endpoint, "/")
	if endpoint != "" {
		endpoint += "/v1/traces"
	}
	if whole := os.Getenv(envTracesEndpoint); whole != "" {
		endpoint = whole
	}
	if disabled, _ := strconv.ParseBool(os.Getenv(envDisabled)); endpoint == "" || disabled {
		return nil, nil
	}
	if u, err := url.Parse(endpoint); err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, errors.New("the OTLP endpoint must be a URL such as http://collector:4318")
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(endpoint))
	if err != nil {
		return nil, fmt.Errorf("make the OTLP exporter: %w", err)
	}
	// Later ones overrule: the environment has the last word.
	res, err := resource.New(ctx,
		resource.WithTelemetrySDK(),
		resource.WithAttributes(
			attribute.String("service.name", "jetway-"+cfg.Role),
			attribute.String("service.instance.id", cfg.Name),
			attribute.String("service.version", cfg.Version)),
		resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("describe this process for traces: %w", err)
	}
	provider := sdk.NewTracerProvider(
		sdk.WithBatcher(&reporting{SpanExporter: exporter, log: cfg.Log}),
		sdk.WithResource(res))
	return &Tracer{provider: provider, tracer: provider.Tracer("github.com/jetway-project/jetway")}, nil
}

// Close sends what is left, for at most 2 s. It may be called on nil.
func (t *Tracer) Close() {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_ = t.provider.Shutdown(ctx)
}

// reporting logs what the exporter cannot send: once a minute, for a collector
// that is away is not worth more. OpenTelemetry would tell a global handler.
type reporting struct {
	sdk.SpanExporter
	log  *slog.Logger
	next atomic.Int64 // Unix seconds
}

func (r *reporting) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	err := r.SpanExporter.ExportSpans(ctx, spans)
	now := time.Now().Unix()
	if next := r.next.Load(); err != nil && now >= next && r.next.CompareAndSwap(next, now+60) {
		r.log.Warn("cannot send spans; they are dropped", "spans", len(spans), "err", err)
	}
	return nil
}
