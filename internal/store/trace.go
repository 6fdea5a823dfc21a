package store

import "context"

type traceKey struct{}

// WithTrace has every row that is written under ctx, and so every event and action that a request causes, continue the
// request's trace: traceparent is a messages.TraceContext, or "".
func WithTrace(ctx context.Context, traceparent string) context.Context {
	if traceparent == "" {
		return ctx
	}
	return context.WithValue(ctx, traceKey{}, traceparent)
}

func traceOf(ctx context.Context) string {
	traceparent, _ := ctx.Value(traceKey{}).(string)
	return traceparent
}
