package proxy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/jetway-project/jetway/messages"
	"github.com/jetway-project/jetway/messages/client"
)

const (
	// probeToken has not the shape of a token, so it never leads anywhere.
	probeToken   = "ready"
	probeTimeout = 2 * time.Second
	// probeEvery keeps /ready, which anybody may ask, from loading the workers.
	probeEvery = time.Second
)

// readiness is whether a worker could be reached the last time.
type readiness struct {
	mu      sync.Mutex
	probed  time.Time
	reached bool
}

// serveReady answers 200 when a worker can be reached and the proxy is to stay.
func (p *Proxy) serveReady(v *visit) {
	if err := p.unready(); err != nil {
		p.refuse(v, refusal{status: http.StatusServiceUnavailable, reason: "Not ready: " + err.Error() + "."})
		return
	}
	v.status = http.StatusOK
	p.endUnread(v)
	h := v.w.Header()
	setGeneral(h)
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(v.w, "ready\n")
}

// reachesWorker asks for a route that does not exist. Those who come meanwhile wait.
func (p *Proxy) reachesWorker() bool {
	p.readiness.mu.Lock()
	defer p.readiness.mu.Unlock()
	if time.Since(p.readiness.probed) < probeEvery {
		return p.readiness.reached
	}
	ctx, cancel := context.WithTimeout(p.serving, probeTimeout)
	defer cancel()
	_, err := client.RequestRaw(ctx, p.nc, messages.RouteSubject(p.cfg.Name), messages.Encode(messages.RouteRequest{Token: probeToken}))
	// What a worker refused, a worker answered: its refusals have an id. That it
	// cannot reach Postgres is not the proxy's failure.
	var refused *messages.Error
	p.readiness.reached = err == nil || errors.As(err, &refused) && (refused.ID != "" || refused.Kind == messages.NotFound)
	p.readiness.probed = time.Now()
	return p.readiness.reached
}
