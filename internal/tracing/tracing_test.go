package tracing_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/jetway-project/jetway/internal/tracing"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// clean keeps the environment of who runs the tests out of them.
func clean(t *testing.T) {
	t.Helper()
	for _, name := range []string{
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_SDK_DISABLED", "OTEL_TRACES_SAMPLER", "OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES",
	} {
		t.Setenv(name, "")
	}
}

func open(t *testing.T, endpoint string) *tracing.Tracer {
	t.Helper()
	tracer, err := tracing.Open(t.Context(), tracing.Config{
		Endpoint: endpoint, Role: "worker", Name: "wo-a", Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return tracer
}

func TestTracesOffCostNothing(t *testing.T) {
	clean(t)
	tracer := open(t, "")
	if tracer.On() {
		t.Fatal("traces are on without an endpoint")
	}
	now := time.Now()
	if n := testing.AllocsPerRun(100, func() {
		span := tracer.Start(parent, "connect", tracing.Server, now)
		span.Set("key", "value")
		child := span.Child("statement", now)
		child.SetInt("n", 1)
		child.End(nil)
		span.End(nil)
		if span.On() || span.Traceparent() != "" {
			t.Error("a span that is none says something")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	tracer.Close()
}

func TestTracesAreTurnedOnAndOffByTheStandardVariables(t *testing.T) {
	clean(t)
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:1/v1/traces")
	tracer := open(t, "")
	if !tracer.On() {
		t.Error("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT does not turn traces on")
	}
	tracer.Close()
	t.Setenv("OTEL_SDK_DISABLED", "true")
	if open(t, "http://127.0.0.1:1").On() {
		t.Error("OTEL_SDK_DISABLED does not turn traces off")
	}
}

func TestEndpointsThatAreNoneAreRefused(t *testing.T) {
	clean(t)
	for _, endpoint := range []string{"127.0.0.1:4318", "collector", "ftp://collector", "http://", "://"} {
		if _, err := tracing.Open(t.Context(), tracing.Config{Endpoint: endpoint}); err == nil {
			t.Errorf("%s is taken", endpoint)
		}
	}
}

// A collector that is away costs spans and a line in the log: I8.
func TestI8CollectorAwayIsSaidOnceAndHoldsNothingUp(t *testing.T) {
	clean(t)
	var said strings.Builder
	tracer, err := tracing.Open(t.Context(), tracing.Config{
		Endpoint: "http://127.0.0.1:1", Role: "worker", Log: slog.New(slog.NewTextHandler(&said, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 10_000 {
		span := tracer.Start(parent, "connect", tracing.Server, time.Now())
		if got := span.Traceparent(); !strings.HasPrefix(got, parent[:36]) || got == parent {
			t.Fatalf("the traceparent is %q", got)
		}
		span.End(nil)
	}
	tracer.Close()
	if n := strings.Count(said.String(), "cannot send spans"); n != 1 {
		t.Errorf("said %d times: %s", n, &said)
	}
}
