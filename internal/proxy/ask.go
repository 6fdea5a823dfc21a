package proxy

import (
	"context"
	"time"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/messages"
)

// question is one request to the workers, shared by all who want its answer.
type question struct {
	answered chan struct{}
	route    *route
	err      error
}

// find gives the route of token: the remembered one, else a worker's answer. Of
// the requests for one token that come while the worker is asked, all get that
// answer. The error is a *messages.Error (NotFound: the token leads nowhere), or
// that of ctx.
func (p *Proxy) find(ctx context.Context, token string) (*route, error) {
	if r := p.routes.get(token); r != nil {
		return r, nil
	}
	q, r := p.join(token)
	if r != nil {
		return r, nil
	}
	select {
	case <-q.answered:
		return q.route, q.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// join gives the question about token that is under way, beginning it if there
// is none; or the route, should the answer have just come.
func (p *Proxy) join(token string) (*question, *route) {
	s := p.routes
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.known[token]; r != nil && !r.expired(time.Now()) {
		return nil, r
	}
	if q := s.asking[token]; q != nil {
		return q, nil
	}
	q := &question{answered: make(chan struct{})}
	s.asking[token] = q
	// Not with the context of the request that happens to be the first: others
	// want the answer as well. Requests are waited for by Run, and each question
	// is begun within one, so the count cannot rise once they have ended.
	p.asks.Go(func() {
		defer close(q.answered)
		q.route, q.err = p.ask(token)
		p.answered(token, q)
	})
	return q, nil
}

func (p *Proxy) ask(token string) (*route, error) {
	ctx, cancel := context.WithTimeout(p.serving, p.cfg.LookupTimeout)
	defer cancel()
	mark, askedAt := p.news.mark(), time.Now()
	resp, err := bus.Request[messages.RouteResponse](ctx, p.nc, messages.RouteSubject(p.cfg.Name), messages.RouteRequest{Token: token})
	if err != nil {
		return nil, err
	}
	return newRoute(token, askedAt, mark, &resp), nil
}

// answered ends a question and remembers what may be remembered.
func (p *Proxy) answered(token string, q *question) {
	s := p.routes
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.asking, token)
	if q.err != nil {
		return
	}
	// Looked up under the lock: an event noted after this finds the route
	// remembered and drops it; one noted before is seen here.
	status, complete := p.news.since(q.route.askedMark, q.route.backend)
	if status == messages.Terminated {
		ended := *q.route
		ended.status = messages.Terminated
		q.route = &ended
	}
	if complete && q.route.open() && !q.route.expired(time.Now()) {
		s.putLocked(q.route)
	}
}
