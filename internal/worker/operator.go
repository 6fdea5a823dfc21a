package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/internal/lifecycle"
	"github.com/jetway-project/jetway/internal/outbox"
	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/messages"
)

// operatorRequest answers what people and web tiers ask of one backend or drone.
func (w *worker) operatorRequest(ctx context.Context, req *request) (any, error) {
	switch req.subject {
	case messages.SubjectTerminate:
		return w.terminate(ctx, req.data)
	case messages.SubjectRevoke:
		return w.revoke(ctx, req.data)
	case messages.SubjectDrain, messages.SubjectUndrain:
		return w.drain(ctx, req.data, req.subject == messages.SubjectUndrain)
	case messages.SubjectForget:
		return w.forget(ctx, req.data)
	case messages.SubjectRetry:
		return w.retry(ctx, req.data)
	case messages.SubjectSleep, messages.SubjectWake:
		return w.nap(ctx, req.data, req.subject == messages.SubjectSleep)
	case messages.SubjectStatus:
		r, err := messages.Decode[messages.StatusRequest](req.data)
		if err != nil {
			return nil, err
		}
		return w.status(ctx, &r)
	case messages.SubjectTemplatePut:
		return w.putTemplate(ctx, req.data)
	case messages.SubjectTemplateGet:
		return w.getTemplate(ctx, req.data)
	case messages.SubjectTemplateDelete:
		return w.deleteTemplate(ctx, req.data)
	}
	return nil, fmt.Errorf("nothing is asked on %s", req.subject)
}

func (w *worker) status(ctx context.Context, r *messages.StatusRequest) (any, error) {
	if r.Key != nil {
		info, ok, err := w.store.Holder(ctx, r.Key)
		if err == nil && !ok {
			return nil, messages.Errorf(messages.NotFound, "no backend holds the key %q of namespace %q, and none that held it is remembered", r.Key.Name, r.Key.Namespace)
		}
		return info, err
	}
	info, ok, err := w.store.Backend(ctx, r.BackendID)
	if err == nil && !ok {
		return nil, noBackend(r.BackendID)
	}
	return info, err
}

func noBackend(id string) error {
	return messages.Errorf(messages.NotFound, "there is no backend %q", id)
}

func (w *worker) terminate(ctx context.Context, data []byte) (any, error) {
	r, err := messages.Decode[messages.TerminateRequest](data)
	if err != nil {
		return nil, err
	}
	if r.Key != nil {
		return w.terminateKey(ctx, &r)
	}
	if known, err := w.end(ctx, &r, r.BackendID); err != nil || !known {
		return nil, cmp.Or(err, noBackend(r.BackendID))
	}
	return messages.Empty{}, nil
}

// end asks for a backend's end; known is false where there is none.
func (w *worker) end(ctx context.Context, r *messages.TerminateRequest, backend string) (known bool, err error) {
	rows, missing, err := w.store.Transition(ctx, nil, []store.Change{{
		BackendID: backend, Forget: r.Forget,
		Event: lifecycle.TerminateAsked{Hard: r.Hard, Reason: messages.ReasonExternal, Why: asked(r)},
	}})
	if err != nil || len(missing) > 0 {
		return false, err
	}
	if len(rows) > 0 || r.Forget {
		w.log.Info("a backend is asked to end", "backend_id", backend, "hard", r.Hard, "forget", r.Forget, "by", r.By, "reason", r.Reason)
	}
	w.enqueue(rows)
	return true, nil
}

// terminateTries bounds how often the holder of a key is looked for anew because another one has come.
const terminateTries = 6

// terminateKey ends who holds a key. It returns once it has asked the last holder that there is: no other one can follow one that was to be
// forgotten, unless somebody says anew what to start.
func (w *worker) terminateKey(ctx context.Context, r *messages.TerminateRequest) (any, error) {
	for range terminateTries {
		holder, err := w.store.LastHolder(ctx, r.Key)
		if err != nil {
			return nil, err
		}
		if holder == "" {
			return nil, messages.Errorf(messages.NotFound, "no backend holds the key %q of namespace %q, and none that held it is remembered", r.Key.Name, r.Key.Namespace)
		}
		known, err := w.end(ctx, r, holder)
		if err == nil && !known && r.Forget {
			err = w.store.ForgetDormant(ctx, r.Key, holder)
		}
		if err != nil {
			return nil, err
		}
		if last, err := w.store.LastHolder(ctx, r.Key); err != nil || last == holder {
			return messages.Empty{}, err
		}
	}
	return nil, messages.Errorf(messages.Unavailable, "the key goes from one backend to the next; ask again")
}

// asked says in words who asked for an end, and why.
func asked(r *messages.TerminateRequest) messages.Why {
	words := cmp.Or(r.By, "somebody") + " asked for its end"
	if r.Reason != "" {
		words += ": " + r.Reason
	}
	return messages.Why{Cause: messages.CauseAsked, By: r.By, Words: words}
}

// forget has a lost drone be forgotten, and its consumer with it.
func (w *worker) forget(ctx context.Context, data []byte) (any, error) {
	r, err := messages.Decode[messages.ForgetRequest](data)
	if err != nil {
		return nil, err
	}
	event, err := w.store.Forget(ctx, r.Drone)
	if err != nil {
		return nil, err
	}
	w.log.Info("a lost drone is forgotten, as was asked", "drone", r.Drone)
	w.relay.Enqueue([]outbox.Row{event})
	// What cannot be deleted now goes when nobody has used it for long.
	if err := errors.Join(bus.PurgeActions(ctx, w.js, r.Drone), bus.DeleteConsumer(ctx, w.js, r.Drone)); err != nil {
		w.log.Warn("cannot delete the consumer of a drone that is forgotten", "drone", r.Drone, "err", err)
	}
	return messages.Empty{}, nil
}

// retry forgives a key its failures.
func (w *worker) retry(ctx context.Context, data []byte) (any, error) {
	r, err := messages.Decode[messages.RetryRequest](data)
	if err != nil {
		return nil, err
	}
	forgiven, ok, err := w.store.Forgive(ctx, &r.Key)
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return nil, messages.Errorf(messages.NotFound, "no backend has held the key %q of namespace %q, as far as is remembered", r.Key.Name, r.Key.Namespace)
	case forgiven > 0:
		w.log.Info("a key is forgiven its failures, as was asked", "key", r.Key.Name, "namespace", r.Key.Namespace, "failures", forgiven)
	}
	return messages.RetryResponse{Forgiven: forgiven}, nil
}

func (w *worker) revoke(ctx context.Context, data []byte) (any, error) {
	r, err := messages.Decode[messages.RevokeRequest](data)
	if err != nil {
		return nil, err
	}
	revoked, rows, ok, err := w.store.Revoke(ctx, &r)
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return nil, noBackend(r.BackendID)
	}
	// Who is told that tokens are revoked may count on the proxies having been told too.
	if err := w.relay.Publish(ctx, rows); err != nil {
		return nil, unavailable(err)
	}
	if len(rows) > 0 {
		w.log.Info("tokens revoked", "backend_id", r.BackendID, "tokens", revoked)
	}
	return messages.RevokeResponse{Revoked: revoked}, nil
}

func (w *worker) drain(ctx context.Context, data []byte, off bool) (any, error) {
	r, err := messages.Decode[messages.DrainRequest](data)
	if err != nil {
		return nil, err
	}
	if off && r.EndAfterSeconds != nil {
		return nil, messages.Errorf(messages.BadRequest, "end_after_seconds: is for a drain, not for its end")
	}
	drained, rows, ok, err := w.store.Drain(ctx, &r, off)
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return nil, messages.Errorf(messages.NotFound, "there is no drone %q", r.Drone)
	}
	if len(rows) > 0 {
		w.log.Info("drone drains", "drone", r.Drone, "draining", !off, "backends", drained.Backends)
	}
	w.relay.Enqueue(rows)
	return drained, nil
}

func (w *worker) keepalive(ctx context.Context, req *request) (any, error) {
	proxy, err := messages.SenderOf(req.subject)
	if err != nil {
		return nil, err
	}
	r, err := messages.Decode[messages.KeepaliveRequest](req.data)
	if err != nil {
		return nil, err
	}
	// Of some only a proxy speaks when somebody comes: what sleeps need not wait until that is noted. It is looked at again then, for
	// a sweep between the two has not seen him.
	if r.Partial {
		if err := w.wake(ctx, connected(&r)); err != nil {
			return nil, err
		}
	}
	if err := w.store.Keepalive(ctx, proxy, &r); err != nil {
		return nil, err
	}
	return messages.Empty{}, w.wake(ctx, connected(&r))
}
