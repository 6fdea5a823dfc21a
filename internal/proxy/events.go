package proxy

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/metrics"
	"github.com/jetway-project/jetway/messages"
)

// listen subscribes to what the bus says of backends and tokens: before the first
// question, so that no event after an answer is missed.
func (p *Proxy) listen(ctx context.Context) (deaf func(), err error) {
	events, err := p.nc.Subscribe(messages.SubjectAnyBackendEvent, p.heard)
	if err != nil {
		return nil, fmt.Errorf("subscribe to the events of backends: %w", err)
	}
	revoked, err := p.nc.Subscribe(messages.SubjectAnyTokenEvent, p.heardRevoked)
	if err != nil {
		_ = events.Unsubscribe()
		return nil, fmt.Errorf("subscribe to the events of tokens: %w", err)
	}
	// Who does not hear this, as by permissions of an earlier version, has what was put to sleep by hand wake by its next full report.
	naps, err := p.nc.Subscribe(messages.SubjectAnySleepEvent, p.heardNap)
	if err != nil {
		_, _ = events.Unsubscribe(), revoked.Unsubscribe()
		return nil, fmt.Errorf("subscribe to the events of sleep: %w", err)
	}
	if err := p.nc.FlushTimeout(p.cfg.LookupTimeout); err != nil {
		// The client subscribes again when the server is back, and tells of the gap.
		p.log.WarnContext(ctx, "cannot reach the NATS server yet", "err", err)
	}
	return func() {
		_ = events.Unsubscribe()
		_ = revoked.Unsubscribe()
		_ = naps.Unsubscribe()
	}, nil
}

// heard takes in an event of a backend. The NATS client calls it for one event
// after the other.
func (p *Proxy) heard(msg *nats.Msg) {
	if dropped, err := msg.Sub.Dropped(); err == nil && dropped != p.dropped {
		// More came than could be taken in. What was thrown away came before what
		// was still queued then, so some event after it gets here.
		p.dropped = dropped
		p.log.Warn("events of backends were lost, all routes are asked for anew", "dropped", dropped)
		p.BusGap()
	}
	if status, ok := messages.StatusOfEvent(msg.Header.Get(messages.HeaderMessageID)); ok && status < messages.Ready {
		return // nobody here waits for it
	}
	event, err := messages.Decode[messages.StateEvent](msg.Data)
	if err != nil {
		p.log.Debug("event ignored", "subject", msg.Subject, "err", err)
		return
	}
	// The news first: see settledLocked.
	p.news.note(event.BackendID, event.Status)
	if event.Status == messages.Terminated {
		p.routes.dropBackend(event.BackendID)
		p.backendEnded(event.BackendID)
	}
}

// heardNap takes in that a backend was put to sleep: who is connected, or comes now, is to be told of at once, which wakes it.
func (p *Proxy) heardNap(msg *nats.Msg) {
	event, err := messages.Decode[messages.SleepEvent](msg.Data)
	if err != nil {
		p.log.Debug("event ignored", "subject", msg.Subject, "err", err)
		return
	}
	if messages.AsleepAt(event.Nap) {
		p.activity.fellAsleep(event.BackendID)
	}
}

// heardRevoked takes in that tokens of a backend were revoked: they are refused from
// here on, and what is under way with them is cut.
func (p *Proxy) heardRevoked(msg *nats.Msg) {
	if dropped, err := msg.Sub.Dropped(); err == nil && dropped != p.droppedRevoked {
		p.droppedRevoked = dropped
		p.log.Warn("revocations were lost, all routes are asked for anew", "dropped", dropped)
		p.BusGap()
	}
	event, err := messages.Decode[messages.TokenEvent](msg.Data)
	if err != nil {
		p.log.Debug("event ignored", "subject", msg.Subject, "err", err)
		return
	}
	// In this order: who asks now sees the news; who has a remembered route sees that it
	// is dead; and who has looked at both before is under way by now.
	p.news.noteRevoked(&event)
	p.routes.dropRevoked(&event)
	open := slices.DeleteFunc(p.activity.passages(event.BackendID), func(ps *passage) bool { return !ps.route.revokedBy(&event) })
	p.cut(metrics.CutRevoked, open)
	p.log.Info("tokens revoked", "backend_id", event.BackendID, "cut", len(open))
}

// BusGap says that events may have been missed: no route is trusted before a worker
// was asked for it, who waits for a backend asks again, and the tokens of what is open are looked up
// once more. For bus.Config.OnReconnect.
func (p *Proxy) BusGap() {
	p.news.gap()
	p.routes.distrust()
	select {
	case p.gapped <- struct{}{}:
	default:
	}
}

// confirmers is how many tokens are looked up at once.
const confirmers = 32

// confirmOpen asks the workers for the tokens of what is open: after a gap for all of them, to cut what
// is open with a token that was revoked, or to a backend that ended, while nobody here heard it; and now and then
// for those that have used up a quarter of their life, for what is open is use, by which a token slides. It returns when
// ctx ends.
func (p *Proxy) confirmOpen(ctx context.Context) {
	tick := time.NewTicker(p.cfg.waits.slide)
	defer tick.Stop()
	for {
		select {
		case <-p.gapped:
			// A token that has run out since leads nowhere for that reason, and what was
			// opened with it may stay.
			p.confirm(ctx, func(rt *route, now time.Duration) bool { return !rt.expired(now) })
		case <-tick.C:
			p.confirm(ctx, func(rt *route, now time.Duration) bool { return rt.slides(now) && !rt.expired(now) })
		case <-ctx.Done():
			return
		}
	}
}

func (p *Proxy) confirm(ctx context.Context, which func(*route, time.Duration) bool) {
	open := p.activity.passagesBy(which, p.routes.clock())
	tokens := make(chan string)
	var all sync.WaitGroup
	for range min(confirmers, len(open)) {
		all.Go(func() {
			for token := range tokens {
				p.confirmToken(ctx, token, open[token])
			}
		})
	}
	for token := range open {
		select {
		case tokens <- token:
		case <-ctx.Done():
		}
	}
	close(tokens)
	all.Wait()
}

// confirmToken asks for one token, with which list is open.
func (p *Proxy) confirmToken(ctx context.Context, token string, list []*passage) {
	rt, err := p.patiently(ctx, func() (*route, error) { return p.await(ctx, token, true, true) })
	switch {
	case err == nil:
		for _, ps := range list {
			if ps.route.same(rt) { // it may have been forgotten and remembered anew
				ps.route.word.Store(rt.word.Load())
			}
		}
	case messages.KindOf(err) == messages.NotFound && !list[0].route.expired(p.routes.clock()):
		p.cut(metrics.CutRevoked, list)
	}
}

// backendEnded notes that what is open to a backend is to end by itself, as it does
// unless the backend's machine is gone, or to be cut.
func (p *Proxy) backendEnded(backend string) {
	if len(p.activity.passages(backend)) == 0 {
		return
	}
	p.endedMu.Lock()
	defer p.endedMu.Unlock()
	p.ended[backend] = time.Now().Add(p.cfg.waits.ended)
}

// cutEnded cuts what is still open to backends that ended a while ago.
func (p *Proxy) cutEnded(now time.Time) {
	p.endedMu.Lock()
	defer p.endedMu.Unlock()
	for backend, until := range p.ended {
		if now.Before(until) {
			continue
		}
		delete(p.ended, backend)
		p.cut(metrics.CutEnded, p.activity.passages(backend))
	}
}

// cut ends what is under way by force.
func (p *Proxy) cut(cause metrics.Cut, passages []*passage) {
	for _, ps := range passages {
		ps.abortFor(closeCode(cause))
	}
	p.metrics.Cut(cause, len(passages))
}
