package proxy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/messages"
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
func (p *Proxy) serveReady(w http.ResponseWriter, r *http.Request) {
	if p.draining.Load() {
		p.refuse(w, r, stopping)
		return
	}
	if !p.reachesWorker() {
		p.refuse(w, r, refusal{status: http.StatusServiceUnavailable, reason: "No worker can be reached."})
		return
	}
	setGeneral(w.Header())
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, "ready\n")
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
	_, err := bus.RequestRaw(ctx, p.nc, messages.RouteSubject(p.cfg.Name), messages.Encode(messages.RouteRequest{Token: probeToken}))
	// What a worker refused, a worker answered: its refusals have an id. That it
	// cannot reach Postgres is not the proxy's failure.
	var refused *messages.Error
	p.readiness.reached = err == nil || errors.As(err, &refused) && (refused.ID != "" || refused.Kind == messages.NotFound)
	p.readiness.probed = time.Now()
	return p.readiness.reached
}
