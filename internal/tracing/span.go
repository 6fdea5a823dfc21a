package tracing

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/jetway-project/jetway/messages"
)

// Kind says which end of a message a span is.
type Kind = trace.SpanKind

// The kinds of spans.
const (
	Server   = trace.SpanKindServer   // answers a request
	Producer = trace.SpanKindProducer // publishes
	Consumer = trace.SpanKindConsumer // takes what was published
)

// Span is one piece of work; the zero value is none. A Span may be copied, and
// used by several goroutines.
type Span struct {
	span   trace.Span
	tracer trace.Tracer
}

// w3c reads and writes traceparent.
var w3c propagation.TraceContext

// Start begins a span that continues traceparent, a [messages.TraceContext]; where that is none it begins a
// trace. Check [Tracer.On] first where the arguments cost something.
func (t *Tracer) Start(traceparent, name string, kind Kind, began time.Time) Span {
	if t == nil {
		return Span{}
	}
	ctx := context.Background()
	if traceparent != "" {
		parent, state := messages.TraceHeaders(traceparent)
		ctx = w3c.Extract(ctx, propagation.MapCarrier{messages.HeaderTraceparent: parent, messages.HeaderTracestate: state})
	}
	_, span := t.tracer.Start(ctx, name, trace.WithSpanKind(kind), trace.WithTimestamp(began))
	return Span{span: span, tracer: t.tracer}
}

// On says whether there are traces.
func (t *Tracer) On() bool { return t != nil }

// On says whether the span is kept by anybody.
func (s Span) On() bool { return s.span != nil && s.span.IsRecording() }

// Child begins a span below s.
func (s Span) Child(name string, began time.Time) Span {
	if s.span == nil {
		return Span{}
	}
	_, span := s.tracer.Start(trace.ContextWithSpan(context.Background(), s.span), name, trace.WithTimestamp(began))
	return Span{span: span, tracer: s.tracer}
}

// Traceparent is what to pass on so that others continue the span, a [messages.TraceContext]; "" of none.
func (s Span) Traceparent() string {
	if s.span == nil {
		return ""
	}
	carrier := propagation.MapCarrier{}
	w3c.Inject(trace.ContextWithSpan(context.Background(), s.span), carrier)
	return messages.TraceContext(carrier[messages.HeaderTraceparent], carrier[messages.HeaderTracestate])
}

// Set notes an attribute.
func (s Span) Set(key, value string) {
	if s.On() {
		s.span.SetAttributes(attribute.String(key, value))
	}
}

// SetInt notes a number.
func (s Span) SetInt(key string, value int) {
	if s.On() {
		s.span.SetAttributes(attribute.Int(key, value))
	}
}

// End ends the span, as failed when err is not nil. What is done after that to the
// span does nothing.
func (s Span) End(err error) {
	if s.span == nil {
		return
	}
	if err != nil {
		s.span.SetStatus(codes.Error, err.Error())
	}
	s.span.End()
}
