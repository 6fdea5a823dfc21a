// Package tracing follows a request across the parts of Jetway with OpenTelemetry:
// spans that continue the asker's W3C traceparent, sent by OTLP over HTTP.
//
// It is off unless an endpoint is given. Then a [Tracer] is nil and a [Span] is
// zero, all of their methods do nothing, and a request costs nothing; what the
// asker said in traceparent is still passed on by those who pass it.
//
// Spans are sent in the background from a bounded queue: a collector that is slow
// or away costs spans, never a request (I8). Sampling, attributes of the resource
// and the exporter's headers come from OpenTelemetry's own environment variables.
//
// Nothing is global. Who opens a Tracer closes it, after the role has ended.
package tracing
