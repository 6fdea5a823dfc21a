package worker

import (
	"maps"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/messages"
)

// heirTimeout bounds the question whether another worker is there. If none is, the server says
// so at once; one that is there may be busy, and what it could have taken must not be refused (I7).
const heirTimeout = 5 * time.Second

// intake hands a request to its endpoint's lane. It must not wait: it is called for one at a time.
func (w *worker) intake(e *endpoint, msg *nats.Msg) {
	req, err := newRequest(e, msg, time.Now())
	if w.cfg.Tracer.On() {
		w.trace(req, e.name)
	}
	switch {
	case !messages.MayReplyTo(req.reply):
		// Who asks may listen there or not: the worker, which may do more, must not
		// be made to speak for it.
		w.log.Warn("ignored a request whose reply would be one itself", "subject", req.subject, "reply", req.reply)
	case err != nil:
		w.replies.fail(req, err)
	default:
		w.letIn(e.lane, req)
	}
}

// letIn puts a request into a lane, if it has room and goes on.
func (w *worker) letIn(l *lane, req *request) {
	// Held until it is in the lane, which must not have finished by then (I7).
	w.intakeMu.RLock()
	stopped := w.stopped
	var refusal error
	if !stopped {
		refusal = l.offer(req)
	}
	w.intakeMu.RUnlock()
	switch {
	case stopped:
		w.handBack(req)
	case refusal != nil:
		w.replies.fail(req, refusal)
	}
}

// takeNoMore ends the subscriptions and waits until what the server had sent until
// then is here. What is not in the lanes soon is handed back.
func (w *worker) takeNoMore(s *service) {
	if err := s.stop(); err != nil && w.nc.IsConnected() {
		w.log.Warn("cannot stop the service cleanly", "err", err)
	}
	_ = w.nc.FlushTimeout(time.Second)
}

// closeIntake lets nothing more into the lanes. It looks whether there is another worker
// to take what this one cannot finish; its own service has stopped, so it does not
// hear itself.
func (w *worker) closeIntake() {
	heir := false
	if w.nc.IsConnected() {
		_, err := w.nc.Request("$SRV.PING."+serviceName, nil, heirTimeout)
		heir = err == nil
	}
	w.intakeMu.Lock()
	defer w.intakeMu.Unlock()
	w.stopped, w.heir = true, heir
}

// handBack gives a request that this worker will not finish to another one: as it
// came, with the time that is left. The other one replies to who asked (I7). Without
// another one it is refused.
func (w *worker) handBack(req *request) {
	w.intakeMu.RLock()
	heir := w.heir
	w.intakeMu.RUnlock()
	left := time.Until(req.deadline)
	if heir && left >= time.Millisecond {
		header := maps.Clone(req.headers)
		if header == nil {
			header = nats.Header{}
		}
		header.Set(messages.HeaderTimeout, left.String())
		err := w.nc.PublishMsg(&nats.Msg{Subject: req.subject, Reply: req.reply, Header: header, Data: req.data})
		if err == nil {
			req.leave()
			w.log.Debug("handed a request back", "subject", req.subject)
			return
		}
		w.log.Warn("cannot hand a request back", "subject", req.subject, "err", err)
	}
	w.replies.fail(req, messages.Errorf(messages.Unavailable, "the worker is stopping; ask again"))
}
