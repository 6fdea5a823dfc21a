package drone

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/messages"
)

// Times of the probe: a process that is up soon is found soon, one that takes
// long is not bothered much.
const (
	probeFirst   = 5 * time.Millisecond
	probeMost    = 250 * time.Millisecond
	probeTimeout = 5 * time.Second
)

// specOf says what the runtime is to run, with the variables that tell the
// process who it is.
func specOf(h *held, spawn *messages.Spawn) runtime.Spec {
	env := map[string]string{
		"SESSION_BACKEND_ID":            h.id,
		"SESSION_BACKEND_KEY":           spawn.Key.Name,
		"SESSION_BACKEND_NAMESPACE":     spawn.Key.Namespace,
		"SESSION_BACKEND_FENCING_TOKEN": strconv.FormatInt(spawn.FencingToken, 10),
	}
	if spawn.StaticToken != "" {
		env["SESSION_BACKEND_STATIC_TOKEN"] = spawn.StaticToken
	}
	return runtime.Spec{BackendID: h.id, Executable: spawn.Executable, Env: env, Log: h.lines.add}
}

// runBackend starts a backend. start ends when the start is to be given up; ctx
// when the agent does not look after the backend any more.
func (a *agent) runBackend(ctx, start context.Context, h *held, spec runtime.Spec) {
	defer h.abort()
	if instance := a.startBackend(ctx, start, h, spec); instance != nil {
		// A goroutine of its own: the stack that starting took is not kept for as
		// long as the backend runs.
		a.wg.Go(func() { a.awaitEnd(ctx, h, instance) })
	}
}

// awaitEnd waits for a backend's end.
func (a *agent) awaitEnd(ctx context.Context, h *held, instance runtime.Instance) {
	select {
	case <-instance.Done():
		h.lines.close()
		a.apply(ctx, h, exited{exit: instance.Exit(), lastWords: h.lines.lastWords()})
	case <-ctx.Done():
	}
}

// errEnded ends the span of a start that was given up.
var errEnded = errors.New("the backend ended before it was ready")

// startBackend gives the instance, ready or ending, or nil when there is none. Its
// span ends with it: where the trace of a request that spawned ends too.
func (a *agent) startBackend(ctx, start context.Context, h *held, spec runtime.Spec) runtime.Instance {
	instance, err := a.launch(ctx, start, h, spec)
	if err != nil {
		a.apply(ctx, h, failed{message: failureText(err)})
		h.span.End(err)
		return nil
	}
	address := instance.Address()
	a.mu.Lock()
	h.instance, h.address = instance, address
	a.applyLocked(ctx, h, started{address: address})
	a.mu.Unlock()
	waiting := h.span.Child("ready", time.Now())
	switch {
	case address == "": // nothing to probe
	case a.probe(start, address, instance.Done()):
		a.apply(ctx, h, answered{})
	default:
		err = errEnded
	}
	waiting.End(err)
	h.span.End(err)
	return instance
}

// failureText is what is reported of a start that failed: nothing of one that was
// given up, for why is known.
func failureText(err error) string {
	if errors.Is(err, errEnded) {
		return ""
	}
	return err.Error()
}

// launch prepares and starts what is to run.
func (a *agent) launch(ctx, start context.Context, h *held, spec runtime.Spec) (runtime.Instance, error) {
	preparing := h.span.Child("prepare", time.Now())
	err := a.rt.Prepare(start, spec)
	preparing.End(err)
	if err != nil {
		return nil, err
	}
	a.apply(ctx, h, prepared{})
	if start.Err() != nil { // it was ended meanwhile; nothing runs yet
		return nil, errEnded
	}
	starting := h.span.Child("start", time.Now())
	instance, err := a.rt.Start(start, spec)
	starting.End(err)
	return instance, err
}

// probe asks until the address answers HTTP, which is true; false when ctx or the
// instance ended before.
func (a *agent) probe(ctx context.Context, address string, done <-chan struct{}) bool {
	url := "http://" + address + "/"
	timer := time.NewTimer(0)
	defer timer.Stop()
	for wait := probeFirst; ; wait = min(wait*2, probeMost) {
		select {
		case <-ctx.Done():
			return false
		case <-done:
			return false
		case <-timer.C:
		}
		if a.probeOnce(ctx, url) {
			return true
		}
		timer.Reset(wait)
	}
}

func (a *agent) probeOnce(ctx context.Context, url string) bool {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, url, http.NoBody)
	if err != nil {
		return false // an address that is none: the startup timeout tells
	}
	resp, err := a.probes.Do(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return true
}

// newProbes makes a client that takes any answer for one, and keeps no connection.
func newProbes() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DisableKeepAlives:      true,
			DialContext:            (&net.Dialer{Timeout: probeTimeout}).DialContext,
			MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
