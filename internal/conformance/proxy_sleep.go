package conformance

import (
	"context"
	"net/http"
	"slices"

	"github.com/jetway-project/jetway/messages"
)

// tellsToWake has a backend fall asleep once nobody is connected, as the proxy said: who comes by the route that it remembers wakes it.
func (b *proxyBench) tellsToWake(ctx context.Context) error {
	token, backend := b.lead("sleeps", func(r *messages.RouteResponse) { r.Sleeps = true })
	if err := b.wants(ctx, token, http.StatusOK); err != nil {
		return err
	}
	for nobody := false; !nobody; {
		k, err := b.full(ctx)
		if err != nil {
			return err
		}
		idle, named := k.idle(backend)
		nobody = !named || idle > 0
	}
	b.mu.Lock()
	from := len(b.keepalives)
	b.mu.Unlock()
	_, leave, err := b.stream(ctx, token)
	if err != nil {
		return err
	}
	defer leave()
	if !b.within(ctx, b.cfg.Keepalive/2, func() bool {
		return slices.ContainsFunc(b.keepalives[from:], func(k keepalive) bool { idle, named := k.idle(backend); return named && idle == 0 })
	}) {
		return errNot(b.cfg.Keepalive/2, "a keepalive that names the backend, with somebody connected")
	}
	return nil
}
