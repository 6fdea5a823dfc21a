package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/messages"
	"github.com/jetway-project/jetway/messages/client"
)

// ask sends a request to the workers for a call.
func ask[Resp any](c *call, subject string, req any) (resp Resp, err error) {
	data, err := c.pass(subject, messages.Encode(req))
	if err != nil {
		return resp, err
	}
	if err := json.Unmarshal(data, &resp); err != nil {
		return resp, fmt.Errorf("read the reply on %s: %w", subject, err)
	}
	return resp, nil
}

// pass sends bytes as they are, and gives the answer as it is. Workers read and judge them: nothing is read twice.
func (c *call) pass(subject string, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(c.r.Context(), c.timeout)
	defer cancel()
	msg := nats.NewMsg(subject)
	msg.Data = body
	if parent := c.r.Header.Get(messages.HeaderTraceparent); parent != "" {
		passTrace(msg.Header, parent, c.r.Header.Values(messages.HeaderTracestate))
	}
	// Requests that have come at about the same time are read first, and then go out together: in one write to the NATS
	// server, and into one batch of a worker's. With 64 at once this makes a quarter more of them.
	runtime.Gosched()
	return client.RequestMsg(ctx, c.g.nc, msg)
}

// passTrace has what the request causes continue the asker's trace. What is not valid is left out.
func passTrace(h nats.Header, parent string, state []string) {
	parent, rest := messages.TraceHeaders(messages.TraceContext(parent, strings.Join(state, ",")))
	if parent != "" {
		h.Set(messages.HeaderTraceparent, parent)
	}
	if rest != "" {
		h.Set(messages.HeaderTracestate, rest)
	}
}

// status asks for one backend.
func (g *Gateway) status(ctx context.Context, req messages.StatusRequest) (messages.BackendInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, client.DefaultTimeout)
	defer cancel()
	return client.Request[messages.BackendInfo](ctx, g.nc, messages.SubjectStatus, req)
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
