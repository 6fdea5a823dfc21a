package proxy

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/jetway-project/jetway/internal/metrics"
	"github.com/jetway-project/jetway/messages"
	"github.com/jetway-project/jetway/messages/client"
)

// question is one request to the workers, shared by all who want its answer.
type question struct {
	answered chan struct{}
	asked    time.Duration // since boot
	route    *route
	err      error
}

// lookup is find for a request whose client has yet to show that it knows a token.
// The error is errStranger when the client has tried too many others, errHurry when it tries too many at once.
func (p *Proxy) lookup(r *http.Request, token string) (*route, error) {
	rt, trusted, unknown := p.routes.get(token)
	switch {
	case trusted:
		p.metrics.Looked(metrics.LookupRemembered)
		if rt.due(p.routes.clock(), p.routes.trust) {
			p.join(token, true, false) // nobody waits for it
		}
		return rt, nil
	case unknown:
		p.metrics.Looked(metrics.LookupRefused)
		return nil, errUnknown(unknown)
	}
	// A token that is remembered has led somewhere: who has it is no stranger.
	nowhere, client := false, p.clientOf(r)
	if rt == nil {
		if err := p.strangers.enter(client, time.Now()); err != nil {
			p.metrics.Looked(metrics.LookupRefused)
			return nil, err
		}
		defer func() { p.strangers.leave(client, time.Now(), nowhere) }()
	}
	rt, err := p.find(r.Context(), token)
	switch kind := messages.KindOf(err); {
	case err == nil:
		p.metrics.Looked(metrics.LookupFound)
	case kind == messages.NotFound, kind == messages.BadRequest:
		p.metrics.Looked(metrics.LookupNowhere)
		nowhere = true
	default:
		p.metrics.Looked(metrics.LookupFailed)
	}
	return rt, err
}

func errUnknown(unknown bool) error {
	if unknown {
		return messages.Errorf(messages.NotFound, "remembered as unknown")
	}
	return nil
}

// find gives the route of token: the remembered one, if it is trusted, else a worker's answer. Of
// the requests for one token that come while the worker is asked, all get that
// answer. The error is a *messages.Error (NotFound: the token leads nowhere), or
// that of ctx.
func (p *Proxy) find(ctx context.Context, token string) (*route, error) {
	if r, trusted, unknown := p.routes.get(token); trusted || unknown {
		return r, errUnknown(unknown)
	}
	return p.await(ctx, token, false, false)
}

// await gives a worker's answer. anew: also where a route is trusted. open: it is asked for what is open already.
func (p *Proxy) await(ctx context.Context, token string, anew, open bool) (*route, error) {
	q, r := p.join(token, anew, open)
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
// is none; or the route, should the answer have just come, unless it is to be asked for anew; or
// neither where too many are. One for what is open already is another question than that of somebody who comes.
func (p *Proxy) join(token string, anew, open bool) (*question, *route) {
	s := p.routes
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.known[token]; r != nil && !anew && !r.expired(s.clock()) && s.trusts(r, s.clock()) {
		return nil, r
	}
	id := token
	if open {
		id = openMark + token
	}
	if q := s.asking[id]; q != nil {
		return q, nil
	}
	if len(s.asking) >= questions {
		return nil, nil
	}
	q := &question{answered: make(chan struct{})}
	s.asking[id] = q
	// Not with the context of the request that happens to be the first: others
	// want the answer as well. Requests and chores are waited for by Run, and each question
	// is begun within one, so the count cannot rise once they have ended.
	p.asks.Go(func() {
		defer close(q.answered)
		for try := 1; ; try++ {
			q.asked = s.clock()
			q.route, q.err = p.ask(token, q.asked, open)
			if p.answered(token, id, q, try == asksAcrossGaps) {
				return
			}
		}
	})
	return q, nil
}

// asksAcrossGaps is how often one question is asked when events may have been missed
// while it was answered: the answer may be from before a revocation.
const asksAcrossGaps = 3

// openMark, which no token has, tells the two questions about one token apart.
const openMark = "?"

func (p *Proxy) ask(token string, asked time.Duration, open bool) (*route, error) {
	ctx, cancel := context.WithTimeout(p.serving, p.cfg.LookupTimeout)
	defer cancel()
	mark, began := p.news.mark(), time.Now()
	resp, err := client.Request[messages.RouteResponse](ctx, p.nc, messages.RouteSubject(p.cfg.Name), messages.RouteRequest{Token: token, Open: open})
	p.metrics.Asked(time.Since(began))
	if err != nil {
		return nil, err
	}
	return newRoute(token, asked, mark, &resp), nil
}

// answered ends a question and remembers what may be remembered. It says false
// when the question must be asked again.
func (p *Proxy) answered(token, id string, q *question, last bool) bool {
	s := p.routes
	s.mu.Lock()
	defer s.mu.Unlock()
	if q.err == nil && !p.settledLocked(q, last) {
		return false
	}
	known := s.known[token]
	switch {
	case messages.KindOf(q.err) == messages.NotFound:
		if id == token { // else its key may be dormant
			s.unknown.add(token, time.Now())
		}
		if known != nil {
			s.dropLocked(known)
		}
	case known != nil && answersWithout(q.err) && s.trusts(known, s.clock()) && !known.expired(s.clock()):
		// Workers are heard, and so are events: what is trusted still goes on while Postgres is away.
		known.vouched(q.asked)
		q.route, q.err = known, nil
	}
	delete(s.asking, id)
	return true
}

// answersWithout says that a worker has answered that it cannot tell now.
func answersWithout(err error) bool {
	var refused *messages.Error
	return errors.As(err, &refused) && refused.ID != "" && (refused.Kind == messages.Unavailable || refused.Kind == messages.Overloaded)
}

// settledLocked compares an answer with what was heard meanwhile. It is under the
// lock of the routes: an event noted after this finds the route remembered and
// drops it; one noted before is seen here.
func (p *Proxy) settledLocked(q *question, last bool) bool {
	status, revoked, complete := p.news.since(q.route)
	known := p.routes.known[q.route.token]
	switch {
	case !complete && !last:
		return false
	case !complete:
		q.route, q.err = nil, messages.Errorf(messages.Unavailable, "events are missed again and again")
	case revoked:
		q.route, q.err = nil, messages.Errorf(messages.NotFound, "the token was just revoked")
	case status == messages.Terminated && q.route.resumable && !last:
		return false // there is a next one, or will be
	case status == messages.Terminated:
		q.route.status = status
	case q.route.open() && !q.route.expired(p.routes.clock()):
		if known != nil && known.same(q.route) {
			known.word.Store(q.route.word.Load())
			q.route = known
		} else {
			q.route.kept = true
			p.routes.putLocked(q.route)
		}
		return true
	}
	if known != nil {
		p.routes.dropLocked(known)
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
