package proxy

import (
	"context"
	"net/http"
	"time"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/internal/metrics"
	"github.com/jetway-project/jetway/messages"
)

// question is one request to the workers, shared by all who want its answer.
type question struct {
	answered chan struct{}
	route    *route
	err      error
}

// lookup is find for a request whose client has yet to show that it knows a token.
// The error is errStranger when the client has tried too many others.
func (p *Proxy) lookup(r *http.Request, token string) (*route, error) {
	rt, unknown := p.routes.get(token)
	switch {
	case rt != nil:
		p.metrics.Looked(metrics.LookupRemembered)
		return rt, nil
	case unknown:
		p.metrics.Looked(metrics.LookupRefused)
		return nil, errUnknown(unknown)
	}
	client := clientOf(r)
	if !p.strangers.admit(client, time.Now()) {
		p.metrics.Looked(metrics.LookupRefused)
		return nil, errStranger
	}
	rt, err := p.find(r.Context(), token)
	switch kind := messages.KindOf(err); {
	case err == nil:
		p.metrics.Looked(metrics.LookupFound)
		p.strangers.giveBack(client, time.Now())
	case kind == messages.NotFound, kind == messages.BadRequest:
		p.metrics.Looked(metrics.LookupNowhere)
	default:
		p.metrics.Looked(metrics.LookupFailed)
		if kind == messages.Unavailable || kind == messages.Overloaded {
			p.strangers.giveBack(client, time.Now())
		}
	}
	return rt, err
}

func errUnknown(unknown bool) error {
	if unknown {
		return messages.Errorf(messages.NotFound, "remembered as unknown")
	}
	return nil
}

// find gives the route of token: the remembered one, else a worker's answer. Of
// the requests for one token that come while the worker is asked, all get that
// answer. The error is a *messages.Error (NotFound: the token leads nowhere), or
// that of ctx.
func (p *Proxy) find(ctx context.Context, token string) (*route, error) {
	if r, unknown := p.routes.get(token); r != nil || unknown {
		return r, errUnknown(unknown)
	}
	q, r := p.join(token)
	switch {
	case r != nil:
		return r, nil
	case q == nil:
		return nil, messages.Errorf(messages.Overloaded, "%d questions are unanswered", questions)
	}
	select {
	case <-q.answered:
		return q.route, q.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// questions is the most that are under way at once (I8).
const questions = 4096

// join gives the question about token that is under way, beginning it if there
// is none; or the route, should the answer have just come; or neither where too many are.
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
	if len(s.asking) >= questions {
		return nil, nil
	}
	q := &question{answered: make(chan struct{})}
	s.asking[token] = q
	// Not with the context of the request that happens to be the first: others
	// want the answer as well. Requests are waited for by Run, and each question
	// is begun within one, so the count cannot rise once they have ended.
	p.asks.Go(func() {
		defer close(q.answered)
		for try := 1; ; try++ {
			q.route, q.err = p.ask(token)
			if p.answered(token, q, try == asksAcrossGaps) {
				return
			}
		}
	})
	return q, nil
}

// asksAcrossGaps is how often one question is asked when events may have been missed
// while it was answered: the answer may be from before a revocation.
const asksAcrossGaps = 3

func (p *Proxy) ask(token string) (*route, error) {
	ctx, cancel := context.WithTimeout(p.serving, p.cfg.LookupTimeout)
	defer cancel()
	mark, askedAt := p.news.mark(), time.Now()
	resp, err := bus.Request[messages.RouteResponse](ctx, p.nc, messages.RouteSubject(p.cfg.Name), messages.RouteRequest{Token: token})
	p.metrics.Asked(time.Since(askedAt))
	if err != nil {
		return nil, err
	}
	return newRoute(token, askedAt, mark, &resp), nil
}

// answered ends a question and remembers what may be remembered. It says false
// when the question must be asked again.
func (p *Proxy) answered(token string, q *question, last bool) bool {
	s := p.routes
	s.mu.Lock()
	defer s.mu.Unlock()
	if q.err == nil && !p.settledLocked(q, last) {
		return false
	}
	if messages.KindOf(q.err) == messages.NotFound {
		s.unknown.add(token, time.Now())
	}
	delete(s.asking, token)
	return true
}

// settledLocked compares an answer with what was heard meanwhile. It is under the
// lock of the routes: an event noted after this finds the route remembered and
// drops it; one noted before is seen here.
func (p *Proxy) settledLocked(q *question, last bool) bool {
	status, revoked, complete := p.news.since(q.route)
	switch {
	case !complete && !last:
		return false
	case !complete:
		q.route, q.err = nil, messages.Errorf(messages.Unavailable, "events are missed again and again")
	case revoked:
		q.route, q.err = nil, messages.Errorf(messages.NotFound, "the token was just revoked")
	case status == messages.Terminated:
		q.route.status = status
	case q.route.open() && !q.route.expired(time.Now()):
		q.route.kept = true
		p.routes.putLocked(q.route)
	}
	return true
}

// revoked says whether the token of a route was revoked since it was asked for.
func (p *Proxy) revoked(rt *route) bool {
	if rt.dead.Load() || rt.kept {
		return rt.dead.Load()
	}
	_, revoked, complete := p.news.since(rt)
	return revoked || !complete
}
