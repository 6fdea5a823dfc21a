package gateway

import (
	"context"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jetway-project/jetway/messages"
	"github.com/jetway-project/jetway/messages/client"
)

const (
	// resumeMost bounds what one who comes back is given of what he missed, and resumeMostOfSome for a token of some
	// namespaces, for whom workers are asked. Beyond, he is told to list anew.
	resumeMost       = 20000
	resumeMostOfSome = 2000
	// resumeTries bounds the readings: so many batches, of up to 256, hold more than resumeMost.
	resumeTries = 100
)

// watch makes a watcher of this call's.
func (c *call) watch(backend string) *watcher {
	asker := "address " + address(c.r)
	if c.who.hash != "" {
		asker = "token " + c.who.hash
	}
	return &watcher{backend: strings.Clone(backend), asker: asker, who: c.who}
}

// begin joins the watchers of one backend and gives its events so far, those up to the number after left out. The
// caller leaves.
func (g *Gateway) begin(ctx context.Context, w *watcher, after int) (sofar []*frame, err error) {
	if err := g.hub.await(ctx, client.DefaultTimeout); err != nil {
		return nil, err
	}
	last, _, err := g.hub.join(w, "")
	if err != nil {
		return nil, err
	}
	// What came before the subscription is in the stream; what has come since is among the last, or is sent.
	events, err := client.New(g.nc).Recorded(ctx, w.backend)
	if err == nil && !slices.ContainsFunc(append(events, eventsOf(last)...), isFirst) {
		events, err = client.New(g.nc).History(ctx, w.backend) // of long ago: a worker knows
	}
	if err != nil {
		g.hub.leave(w)
		return nil, err
	}
	for _, e := range events {
		sofar = append(sofar, &frame{event: e})
	}
	sofar = append(sofar, last...)
	slices.SortStableFunc(sofar, func(a, b *frame) int { return a.event.Number - b.event.Number })
	sofar = slices.CompactFunc(sofar, func(a, b *frame) bool { return a.event.Number == b.event.Number })
	// In a cluster neither subscription nor history tells that nothing is missing: a worker is asked a little later.
	// What of sleep is among them has no number, and goes: the worker knows that, too.
	return slices.DeleteFunc(sofar, func(f *frame) bool { return f.event.Number <= after }), nil
}

func eventsOf(frames []*frame) (events []messages.StateEvent) {
	for _, f := range frames {
		events = append(events, f.event)
	}
	return events
}

func isFirst(e messages.StateEvent) bool { return e.Status == messages.Scheduled }

// pump sends a stream what comes.
type pump struct {
	g      *Gateway
	w      *watcher
	s      *sse
	text   func(*frame) []byte
	last   int             // of one backend
	nap    int64           // of one backend: the last that was sent
	unsure bool            // something may be missing
	gone   <-chan struct{} // closed when the client has left, where that is known
	fin    finish
}

// run ends when the backend has ended, the client has left, or the watcher was cut.
func (p *pump) run() {
	p.g.metrics.Streams(1)
	whole := false
	defer func() {
		p.g.hub.leave(p.w)
		p.s.end(whole)
		p.g.metrics.Streams(-1)
		p.fin.end(http.StatusOK)
	}()
	timer := time.NewTimer(p.pause())
	defer timer.Stop()
	for {
		select {
		case f, ok := <-p.w.queue:
			if !ok {
				return
			}
			done, err := p.take(f)
			if whole = done; done || err != nil {
				return
			}
			if f.again && p.w.backend != "" {
				p.unsure = true
			}
			timer.Reset(p.pause())
		case <-timer.C:
			done, err := p.quiet()
			if whole = done; done || err != nil {
				return
			}
			timer.Reset(p.pause())
		case <-p.gone:
			return
		}
	}
}

// pause is how long to be silent.
func (p *pump) pause() time.Duration {
	if p.unsure {
		return p.g.cfg.waits.unsure + rand.N(p.g.cfg.waits.unsure) //nolint:gosec // that not all ask at once
	}
	return p.g.cfg.waits.comment
}

// take sends an event that is new; done says that none follows.
func (p *pump) take(f *frame) (done bool, err error) {
	if p.w.backend == "" {
		if f.event.ID != "" {
			if ok, err := p.g.maySee(p.w.who, f.event.BackendID); !ok || err != nil {
				return false, err
			}
		}
		return false, p.s.send(p.text(f))
	}
	if f.sleep != nil {
		if f.sleep.Nap <= p.nap {
			return false, nil
		}
		p.nap = f.sleep.Nap
		if text := p.text(f); text != nil { // Plane's streams know no sleep
			err = p.s.send(text)
		}
		return false, err
	}
	if f.event.Number <= p.last { // notices have no number
		return false, nil
	}
	p.last = f.event.Number
	return f.event.Status == messages.Terminated, p.s.send(p.text(f))
}

// maySee says whether somebody may see a backend's events; of one that nobody knows any more only who sees all.
func (g *Gateway) maySee(w *who, backend string) (bool, error) {
	if w.namespaces == nil {
		return true, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), client.DefaultTimeout)
	defer cancel()
	namespace, err := g.namespace(ctx, backend)
	if messages.KindOf(err) == messages.NotFound {
		return false, nil
	}
	return err == nil && w.sees(namespace), err
}

// quiet says that the stream lives. Where events may be missing, a worker is asked.
func (p *pump) quiet() (done bool, err error) {
	if p.unsure {
		info, err := p.g.status(context.Background(), messages.StatusRequest{BackendID: p.w.backend})
		switch {
		case messages.KindOf(err) == messages.NotFound:
			p.unsure = false
			return p.last > 0, nil // it ended long ago, or is yet to come
		case err == nil:
			p.unsure = false
			if done, err := p.take(&frame{event: messages.NewStateEvent(info.BackendID, info.ChangedAt, info.State)}); done || err != nil {
				return done, err
			}
			return false, p.napped(info.Nap.Nap)
		}
	}
	return false, p.s.send(comment)
}

// streamOne streams one backend, from after a number on.
func (c *call) streamOne(backend string, after int, text func(*frame) []byte) (any, error) {
	if after >= int(messages.Terminated) {
		c.plain(http.StatusNoContent, "") // who comes back for more is told that there is none
		return nil, handledError{}
	}
	w := c.watch(backend)
	sofar, err := c.g.begin(c.r.Context(), w, after)
	if err != nil {
		return nil, err
	}
	if c.r.Method == http.MethodHead {
		c.g.hub.leave(w)
		c.w.Header().Set("Content-Type", "text/event-stream")
		c.status = http.StatusOK
		c.w.WriteHeader(http.StatusOK)
		return nil, handledError{}
	}
	s, err := c.openStream(true)
	if err != nil {
		c.g.hub.leave(w)
		return nil, handledError{}
	}
	p := &pump{g: c.g, w: w, s: s, text: text, last: after, unsure: true, fin: c.finish()}
	c.later = true
	for _, f := range sofar {
		done, err := p.take(f)
		if done || err != nil {
			c.g.hub.leave(w)
			s.end(done)
			p.fin.end(http.StatusOK)
			return nil, handledError{}
		}
	}
	c.start(p)
	return nil, handledError{}
}

// start pumps in a goroutine of its own where the connection was taken from the server.
func (c *call) start(p *pump) {
	if p.s.conn == nil {
		p.gone = c.r.Context().Done()
		p.run()
		return
	}
	c.g.running.Go(p.run)
}

// streamAll streams all backends that the asker may see, from now on, or from where he was.
func (c *call) streamAll() (any, error) {
	after := c.r.Header.Get("Last-Event-ID")
	place, event, ok := parseID(after)
	if !ok {
		after = ""
	}
	if err := c.g.hub.await(c.r.Context(), c.timeout); err != nil {
		return nil, err
	}
	w := c.watch("")
	last, found, err := c.g.hub.join(w, after)
	if err != nil {
		return nil, err
	}
	if !found {
		c.g.hub.leave(w) // until what was missed is read: meanwhile too much may come
	}
	s, err := c.openStream(true)
	if err != nil {
		c.g.hub.leave(w)
		return nil, handledError{}
	}
	p := &pump{g: c.g, w: w, s: s, text: (*frame).v1, fin: c.finish()}
	c.later = true
	err = s.send(liveNotice(c.g.hub.isLive()).v1())
	if err == nil && !found {
		w = c.watch("")
		p.w = w
		last, err = c.missed(p, place, event)
	}
	for _, f := range last {
		if err == nil {
			_, err = p.take(f)
		}
	}
	if err != nil {
		c.g.hub.leave(w)
		s.end(false)
		p.fin.end(http.StatusOK)
		return nil, handledError{}
	}
	c.start(p)
	return nil, handledError{}
}

// missed sends what the stream of events has after a place, joins, and gives what is among the last. Where it cannot
// tell, it says so: the client lists anew.
func (c *call) missed(p *pump, place uint64, event string) ([]*frame, error) {
	most := resumeMost
	if p.w.who.namespaces != nil {
		most = resumeMostOfSome
	}
	id := strconv.FormatUint(place, 10) + "." + event
	sent := 0
	for tries := 0; sent < most && tries < resumeTries; tries++ {
		events, more, err := client.New(c.g.nc).EventsFrom(c.r.Context(), place)
		if err != nil {
			return nil, err
		}
		if len(events) == 0 || events[0].Place != place || events[0].ID != event {
			break // another stream, or so long ago that it is deleted
		}
		for _, e := range events[1:] {
			f := &frame{event: e.StateEvent, sleep: e.Sleep, place: e.Place}
			if _, err := p.take(f); err != nil {
				return nil, err
			}
			place, event, id = e.Place, e.ID, f.id()
			sent++
		}
		if more && len(events) > 1 {
			continue
		}
		last, found, err := c.g.hub.join(p.w, id)
		switch {
		case err != nil:
			return nil, err
		case found:
			return last, nil
		case len(last) < ringSize:
			// All that came since the hub began is here, and the event was before that.
			return slices.DeleteFunc(last, func(f *frame) bool { return f.place <= place }), nil
		}
		c.g.hub.leave(p.w)
		p.w = c.watch("")
	}
	if err := p.s.send(notice("reset", `{"reason":"events were missed: list anew"}`).v1()); err != nil {
		return nil, err
	}
	p.w = c.watch("")
	_, _, err := c.g.hub.join(p.w, "")
	return nil, err
}
