package worker

import (
	"context"

	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/messages"
)

// routeBatch looks the tokens of waiting route requests up at once. Who comes to a key that outlives its backends, and has none that he could
// be led to, goes through connect, as anybody who wants a key does: so a herd of visitors gets one backend (I1). Then its token
// is looked up once more.
func (w *worker) routeBatch(ctx context.Context, batch []*request) {
	asking := make([]*request, 0, len(batch))
	tokens := make([]string, 0, len(batch))
	latest := batch[0].deadline
	for _, req := range batch {
		_, err := messages.SenderOf(req.subject)
		var r messages.RouteRequest
		if err == nil {
			r, err = messages.Decode[messages.RouteRequest](req.data)
		}
		if err != nil {
			w.replies.fail(req, err)
			continue
		}
		if req.deadline.After(latest) {
			latest = req.deadline
		}
		req.open = r.Open
		asking, tokens = append(asking, req), append(tokens, r.Token)
	}
	if len(asking) == 0 {
		return
	}
	ctx, cancel := context.WithDeadline(ctx, latest)
	defer cancel()
	routes, err := w.store.Routes(ctx, tokens)
	if wakeErr := w.wakeRouted(ctx, routes); wakeErr != nil {
		// They wake with the keepalive that says that somebody has come.
		w.log.Warn("cannot wake backends that somebody visits", "err", wakeErr)
	}
	for i, req := range asking {
		switch {
		case err != nil:
			w.replies.fail(req, err)
		case routes[i] == nil || req.open && routes[i].BackendID == "":
			w.replies.fail(req, errNowhere)
		case routes[i].Gone && !req.open && !(req.resumed && routes[i].BackendID != ""):
			w.resume(req, routes[i].Key)
		default:
			w.replies.ok(req, &routes[i].RouteResponse)
		}
	}
}

var errNowhere = messages.Errorf(messages.NotFound, "the token leads nowhere")

// resume has a route request wait for a backend of its key, as a connect that says nothing of what to start.
func (w *worker) resume(req *request, key *messages.Key) {
	req.key = key
	// Held until it is in the lane, which must not have finished by then, as in letIn (I7).
	w.intakeMu.RLock()
	stopped, room := w.stopped, false
	if !stopped {
		room = w.lanes.connect.retry(req)
	}
	w.intakeMu.RUnlock()
	switch {
	case stopped:
		w.handBack(req)
	case !room:
		w.replies.fail(req, messages.Errorf(messages.Overloaded, "too many requests wait for dormant keys to be started; ask again in a moment"))
	}
}

// resumed answers a route request whose key has a backend now: by looking its token up again. The lane of routes outlives that of connects.
func (w *worker) resumed(req *request) {
	req.resumed = true
	if !w.lanes.route.retry(req) {
		w.replies.fail(req, messages.Errorf(messages.Overloaded, "too many requests wait for dormant keys to be started; ask again in a moment"))
	}
}

// notResumed refuses one: of a key that is not dormant any more, nor held by who has its token, the token leads nowhere.
func (w *worker) notResumed(req *request, err error) {
	switch messages.KindOf(err) {
	case messages.KeyUnheldNoSpawnConfig, messages.KeyHeld:
		err = errNowhere
	}
	w.replies.fail(req, err)
}

// wakeRouted wakes those that somebody is on the way to.
func (w *worker) wakeRouted(ctx context.Context, routes []*store.Route) error {
	var asleep []string
	for _, route := range routes {
		if route != nil && route.Asleep {
			asleep = append(asleep, route.BackendID)
		}
	}
	return w.wake(ctx, asleep)
}
