package gateway

import (
	"context"
	"sync"
	"time"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/messages"
)

// ask sends a request to the workers for a call.
func ask[Resp any](c *call, subject string, req any) (Resp, error) {
	ctx, cancel := context.WithTimeout(c.r.Context(), c.timeout)
	defer cancel()
	return bus.Request[Resp](ctx, c.g.nc, subject, req)
}

// status asks for one backend.
func (g *Gateway) status(ctx context.Context, req messages.StatusRequest) (messages.BackendInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, bus.DefaultTimeout)
	defer cancel()
	return bus.Request[messages.BackendInfo](ctx, g.nc, messages.SubjectStatus, req)
}

const (
	// A backend's namespace does not change, but its id may be another's once it was deleted, which is never
	// sooner than a minute after its end.
	spacesFor  = time.Minute
	spacesMost = 1 << 14
)

// spaces remembers in which namespaces backends are, for who may see some only.
type spaces struct {
	mu    sync.Mutex
	known map[string]space
}

type space struct {
	name  string
	until time.Time
}

// namespace says in which namespace a backend is.
func (g *Gateway) namespace(ctx context.Context, backend string) (string, error) {
	g.spaces.mu.Lock()
	s, ok := g.spaces.known[backend]
	g.spaces.mu.Unlock()
	if ok && time.Now().Before(s.until) {
		return s.name, nil
	}
	info, err := g.status(ctx, messages.StatusRequest{BackendID: backend})
	if err != nil {
		return "", err
	}
	g.spaces.mu.Lock()
	defer g.spaces.mu.Unlock()
	if len(g.spaces.known) >= spacesMost || g.spaces.known == nil {
		g.spaces.known = make(map[string]space)
	}
	g.spaces.known[backend] = space{info.Key.Namespace, time.Now().Add(spacesFor)}
	return info.Key.Namespace, nil
}

// owned gives a backend that the call may see; for another one it does not exist.
func (c *call) owned(backend string) (messages.BackendInfo, error) {
	if err := messages.CheckBackendID(backend); err != nil {
		return messages.BackendInfo{}, noBackend(backend)
	}
	info, err := c.g.status(c.r.Context(), messages.StatusRequest{BackendID: backend})
	if err == nil && !c.who.sees(info.Key.Namespace) {
		err = noBackend(backend)
	}
	if messages.KindOf(err) == messages.NotFound {
		err = noBackend(backend) // in the same words, whoever asks
	}
	return info, err
}

// mayTouch refuses what is another's; who may see everything is not asked about.
func (c *call) mayTouch(backend string) error {
	if c.who.namespaces == nil {
		return nil
	}
	_, err := c.owned(backend)
	return err
}

func noBackend(backend string) error {
	return messages.Errorf(messages.NotFound, "there is no backend %.60q", backend)
}
