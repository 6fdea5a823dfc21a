package gateway

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/jetway-project/jetway/messages"
)

// Connected is the answer to a connect: that of the bus, and what HTTP adds.
type Connected struct {
	messages.ConnectResponse
	// StatusURL is where anybody may follow the backend's status.
	StatusURL string `json:"status_url"`
	// Ended is there where the caller waited for the backend to be ready, and it ended: why.
	Ended *messages.State `json:"ended,omitempty"`
}

type connectQuery struct {
	Wait string `query:"wait" enum:"ready" description:"Answer once the backend is ready or has ended, or when Jetway-Timeout (30s, at most 60s) is over: status says which"`
}

type pageQuery struct {
	After string `query:"after" description:"next of the page before"`
	Limit int    `query:"limit" minimum:"1" maximum:"200"`
}

type backendsQuery struct {
	pageQuery
	Drone string `query:"drone" description:"Only those of this drone"`
	All   bool   `query:"all" description:"Also those that have ended"`
}

type logsQuery struct {
	Tail int `query:"tail" minimum:"0" description:"Only so many of the last lines"`
}

type eventStream string

// connect is /v1/connect.
func (c *call) connect() (any, error) {
	if err := c.wantJSON(); err != nil {
		return nil, err
	}
	wait := c.r.URL.Query().Get("wait")
	switch wait {
	case "":
	case "ready":
		if c.r.Header.Get(messages.HeaderTimeout) == "" {
			c.timeout = waitTimeout
		}
	default:
		return nil, messages.Errorf(messages.BadRequest, "wait: must be ready, not %.40q", wait)
	}
	req, err := messages.Decode[messages.ConnectRequest](c.body)
	if err != nil {
		return nil, err
	}
	resp, err := c.grant(&req)
	if err != nil {
		return nil, err
	}
	answer := Connected{ConnectResponse: resp, StatusURL: c.g.cfg.URL + "/pub/b/" + resp.BackendID + "/status"}
	if wait != "" {
		err = c.await(&answer)
	}
	return answer, err
}

// grant asks for a backend, within the asker's namespaces, and only once for one Idempotency-Key.
func (c *call) grant(req *messages.ConnectRequest) (messages.ConnectResponse, error) {
	once := c.r.Header.Get("Idempotency-Key")
	if len(once) > messages.MaxName {
		return messages.ConnectResponse{}, messages.Errorf(messages.BadRequest, "Idempotency-Key: is %d bytes long, at most %d are allowed", len(once), messages.MaxName)
	}
	switch spaces := c.who.namespaces; {
	case spaces == nil:
	case req.Key == nil && len(spaces) == 1:
		req.Key = &messages.Key{Name: "lk-" + newID(), Namespace: spaces[0]}
		if once != "" {
			req.Key.Name = ""
		}
	case req.Key == nil:
		return messages.ConnectResponse{}, messages.Errorf(Forbidden, "key.namespace: must be one of those of the token %q", c.who.name)
	case !c.who.sees(req.Key.Namespace):
		return messages.ConnectResponse{}, messages.Errorf(Forbidden, "key.namespace: %.60q is not one of those of the token %q", req.Key.Namespace, c.who.name)
	}
	derived := once != "" && (req.Key == nil || req.Key.Name == "")
	if once != "" {
		c.fold(req, once, derived)
	}
	resp, err := ask[messages.ConnectResponse](c, messages.SubjectConnect, req)
	switch kind := messages.KindOf(err); {
	case kind == messages.KeyHeld && derived:
		err = messages.Errorf(messages.KeyHeld, "Idempotency-Key: was used with another request")
	case kind == messages.BackendExists && once != "":
		err = messages.Errorf(messages.BackendExists, "Idempotency-Key: the backend that was started for it has ended; use a new one to start another")
	}
	return resp, err
}

// fold makes requests with one Idempotency-Key name the same backend, wherever and whenever they come: by a key that
// all of them hold, where they have none of their own, and by the id of what they start. What is made out of the request
// itself goes into the tag, so that another request with the same Idempotency-Key is refused.
func (c *call) fold(req *messages.ConnectRequest, once string, derived bool) {
	namespace := ""
	if req.Key != nil {
		namespace = req.Key.Namespace
	}
	name := digest(c.who.name, namespace, once)
	if derived {
		req.Key = &messages.Key{Name: "lk-" + name, Namespace: namespace, Tag: digest(string(c.body))}
	} else {
		name = digest(c.who.name, namespace, req.Key.Name, once)
	}
	if req.SpawnConfig != nil && req.SpawnConfig.ID == "" {
		req.SpawnConfig.ID = "ik-" + name
	}
}

// digest is 128 bits of a hash, which fit an id.
func digest(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		h.Write([]byte(strconv.Itoa(len(p))))
		h.Write([]byte{':'})
		h.Write([]byte(p))
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// await waits until the backend is ready, or leaves, or the time is over.
func (c *call) await(answer *Connected) error {
	if answer.Status >= messages.Ready {
		return nil
	}
	ctx, cancel := context.WithDeadline(c.r.Context(), c.began.Add(c.timeout))
	defer cancel()
	w := c.watch(answer.BackendID)
	sofar, err := c.g.begin(ctx, w, 0)
	if err != nil {
		if ctx.Err() != nil {
			return nil // it was granted; the status says how far it is
		}
		return err
	}
	defer c.g.hub.leave(w)
	look := func(f *frame) bool {
		answer.Status = max(answer.Status, f.event.Status)
		if f.event.Status == messages.Terminated {
			answer.Ended = &f.event.State
		}
		return answer.Status == messages.Ready || f.event.Status == messages.Terminated
	}
	if slices.ContainsFunc(sofar, look) {
		return nil
	}
	again := time.NewTicker(c.g.cfg.waits.unsure)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case f, ok := <-w.queue:
			if !ok || look(f) {
				return nil
			}
		case <-again.C: // should an event not come
			info, err := c.g.status(ctx, messages.StatusRequest{BackendID: answer.BackendID})
			if err == nil && look(&frame{event: messages.StateEvent{State: info.State}}) {
				return nil
			}
		}
	}
}

// request reads a body, and refuses what is not JSON.
func request[T any](c *call, decode func([]byte) (T, error)) (T, error) {
	if err := c.wantJSON(); err != nil {
		var none T
		return none, err
	}
	return decode(c.body)
}

func (c *call) revoke() (any, error) {
	req, err := request(c, messages.Decode[messages.RevokeRequest])
	if err == nil {
		err = c.mayTouch(req.BackendID)
	}
	if err != nil {
		return nil, err
	}
	return ask[messages.RevokeResponse](c, messages.SubjectRevoke, req)
}

func (c *call) terminate() (any, error) {
	req, err := request(c, messages.Decode[messages.TerminateRequest])
	if err == nil {
		err = c.mayTouch(req.BackendID)
	}
	if err != nil {
		return nil, err
	}
	return ask[messages.Empty](c, messages.SubjectTerminate, req)
}

func (c *call) drain() (any, error)   { return c.drainBy(messages.SubjectDrain) }
func (c *call) undrain() (any, error) { return c.drainBy(messages.SubjectUndrain) }

func (c *call) drainBy(subject string) (any, error) {
	req, err := request(c, messages.Decode[messages.DrainRequest])
	if err != nil {
		return nil, err
	}
	return ask[messages.DrainResponse](c, subject, req)
}

func (c *call) statusOf() (any, error) {
	req, err := request(c, messages.Decode[messages.StatusRequest])
	switch {
	case err != nil:
		return nil, err
	case req.Key == nil:
		return c.owned(req.BackendID)
	case !c.who.sees(req.Key.Namespace):
		return nil, messages.Errorf(Forbidden, "key.namespace: %.60q is not one of those of the token %q", req.Key.Namespace, c.who.name)
	}
	return ask[messages.BackendInfo](c, messages.SubjectStatus, req)
}

func (c *call) backend() (any, error) { return c.owned(c.r.PathValue("backend")) }

// backends lists a page. Of a token of some namespaces it leaves out what is another's: a page may be shorter than
// asked for, and go on.
func (c *call) backends() (any, error) {
	query := c.r.URL.Query()
	page, err := pageOf(query)
	if err != nil {
		return nil, err
	}
	all, err := boolOf(query, "all")
	if err != nil {
		return nil, err
	}
	req, err := messages.Decode[messages.BackendsRequest](messages.Encode(messages.BackendsRequest{Drone: query.Get("drone"), All: all, Page: page}))
	if err != nil {
		return nil, err
	}
	resp, err := ask[messages.BackendsResponse](c, messages.SubjectBackends, req)
	if err != nil {
		return nil, err
	}
	seen := make([]messages.BackendInfo, 0, len(resp.Backends))
	for _, b := range resp.Backends {
		if c.who.sees(b.Key.Namespace) {
			seen = append(seen, b)
		}
	}
	resp.Backends = seen
	return resp, nil
}

func (c *call) drones() (any, error) {
	page, err := pageOf(c.r.URL.Query())
	if err != nil {
		return nil, err
	}
	req, err := messages.Decode[messages.DronesRequest](messages.Encode(messages.DronesRequest{Page: page}))
	if err != nil {
		return nil, err
	}
	return ask[messages.DronesResponse](c, messages.SubjectDrones, req)
}

func pageOf(query url.Values) (messages.Page, error) {
	page := messages.Page{After: query.Get("after")}
	text := query.Get("limit")
	if text == "" {
		return page, nil
	}
	var err error
	if page.Limit, err = strconv.Atoi(text); err != nil || page.Limit < 1 {
		return page, messages.Errorf(messages.BadRequest, "limit: must be 1 to %d", messages.MaxPage)
	}
	return page, nil
}

func boolOf(query url.Values, name string) (bool, error) {
	text := query.Get(name)
	if text == "" {
		return false, nil
	}
	b, err := strconv.ParseBool(text)
	if err != nil {
		return false, messages.Errorf(messages.BadRequest, "%s: must be true or false, not %.40q", name, text)
	}
	return b, nil
}

// health serves the probes and the metrics.
func (c *call) health() (any, error) {
	c.status = 200
	c.g.cfg.Metrics.ServeHTTP(c.w, c.r)
	return nil, handledError{}
}
