package proxy

import (
	"context"
	"errors"
	"time"

	"github.com/jetway-project/jetway/messages"
)

var (
	errNotReady = errors.New("the backend did not get ready in time")
	errCrowded  = errors.New("too many requests wait for their backends")
)

// Pauses between questions when a backend got ready but no worker answers.
const (
	firstPause = 200 * time.Millisecond
	longPause  = 2 * time.Second
)

// hold waits until the backend of r, which is not ready, gets ready, and gives
// the route then. It waits for the event and asks once it came, or may have been
// missed. The error is errNotReady past the ready timeout, errCrowded when too many
// wait; else as for find.
func (p *Proxy) hold(ctx context.Context, r *route) (*route, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, p.cfg.ReadyTimeout, errNotReady)
	defer cancel()
	defer p.held.Add(-1)
	if p.held.Add(1) > int64(p.cfg.MaxHeld) {
		return nil, errCrowded
	}
	// Somebody is here, although nothing is connected to the backend yet.
	p.activity.opened(r.backend)
	defer p.activity.closed(r.backend)

	for !r.open() && !r.status.Leaving() {
		// The mark is from before r was asked for, so an event that came
		// between the answer and now counts.
		woken, leave := p.news.watch(r.askedMark, r.backend)
		select {
		case <-woken:
			leave()
		case <-ctx.Done():
			leave()
			return nil, context.Cause(ctx)
		}
		var err error
		if r, err = p.findPatiently(ctx, r.token); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// findPatiently is find that outlasts a restart of the workers or of NATS.
func (p *Proxy) findPatiently(ctx context.Context, token string) (*route, error) {
	return p.patiently(ctx, func() (*route, error) { return p.find(ctx, token) })
}

func (p *Proxy) patiently(ctx context.Context, find func() (*route, error)) (*route, error) {
	for pause := firstPause; ; pause = min(2*pause, longPause) {
		r, err := find()
		if kind := messages.KindOf(err); kind != messages.Unavailable && kind != messages.Overloaded {
			return r, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
