package gateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
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
	Drone     string   `query:"drone" description:"Only those of this drone"`
	All       bool     `query:"all" description:"Also those that have ended"`
	Namespace string   `query:"namespace" description:"Only those for keys of this namespace"`
	Key       string   `query:"key" description:"Only those for the key of this name, in namespace"`
	Status    []string `query:"status" description:"Only those in one of these"`
	Within    int64    `query:"changed_within_seconds" minimum:"1" description:"Only those whose status changed within so many seconds"`
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
	reply, err := c.grant()
	if err != nil {
		return nil, err
	}
	if wait == "" {
		return c.withStatusURL(reply)
	}
	var answer Connected
	if err := json.Unmarshal(reply, &answer); err != nil {
		return nil, fmt.Errorf("read the answer to a connect: %w", err)
	}
	answer.StatusURL = c.g.statusURL(answer.BackendID)
	return &answer, c.await(&answer)
}

func (g *Gateway) statusURL(backend string) string {
	return g.cfg.URL + "/pub/b/" + backend + "/status"
}

// withStatusURL adds the one field that a worker does not know to its answer, which else goes on as it is.
func (c *call) withStatusURL(reply []byte) (any, error) {
	var read struct {
		BackendID string `json:"backend_id"`
	}
	// Workers begin with it, and it has nothing to be escaped.
	if rest, ok := bytes.CutPrefix(reply, []byte(`{"backend_id":"`)); ok {
		read.BackendID = string(rest[:max(bytes.IndexByte(rest, '"'), 0)])
	} else if err := json.Unmarshal(reply, &read); err != nil {
		return nil, fmt.Errorf("read the answer to a connect: %w", err)
	}
	whole, ok := bytes.CutSuffix(reply, []byte("}"))
	if !ok || read.BackendID == "" {
		return nil, fmt.Errorf("the answer to a connect names no backend: %.200q", reply)
	}
	return json.RawMessage(slices.Concat(whole, []byte(`,"status_url":`), messages.Encode(c.g.statusURL(read.BackendID)), []byte{'}'})), nil
}

// grant asks for a backend, within the asker's namespaces, and only once for one Idempotency-Key. It gives the worker's
// answer.
func (c *call) grant() ([]byte, error) {
	body, once, derived := c.body, c.r.Header.Get("Idempotency-Key"), false
	if once != "" || c.who.namespaces != nil {
		var err error
		if body, derived, err = c.bind(once); err != nil {
			return nil, err
		}
	}
	reply, err := c.pass(messages.SubjectConnect, body)
	switch kind := messages.KindOf(err); {
	case kind == messages.KeyHeld && derived:
		err = messages.Errorf(messages.KeyHeld, "Idempotency-Key: was used with another request")
	case kind == messages.BackendExists && once != "":
		err = messages.Errorf(messages.BackendExists, "Idempotency-Key: the backend that was started for it has ended; use a new one to start another")
	}
	return reply, err
}

// bind gives a connect's body as it is sent on for who may ask within some namespaces, or once for an Idempotency-Key. derived says that
// the key is made of that.
func (c *call) bind(once string) (body []byte, derived bool, err error) {
	if len(once) > messages.MaxName {
		return nil, false, messages.Errorf(messages.BadRequest, "Idempotency-Key: is %d bytes long, at most %d are allowed", len(once), messages.MaxName)
	}
	req, err := messages.Decode[messages.ConnectRequest](c.body)
	if err != nil {
		return nil, false, err
	}
	switch spaces := c.who.namespaces; {
	case spaces == nil:
	case req.Key == nil && len(spaces) == 1:
		req.Key = &messages.Key{Name: "lk-" + newID(), Namespace: spaces[0]}
		if once != "" {
			req.Key.Name = ""
		}
	case req.Key == nil:
		return nil, false, messages.Errorf(Forbidden, "key.namespace: must be one of those of the token %q", c.who.name)
	case !c.who.sees(req.Key.Namespace):
		return nil, false, messages.Errorf(Forbidden, "key.namespace: %.60q is not one of those of the token %q", req.Key.Namespace, c.who.name)
	case once == "":
		return c.body, false, nil
	}
	derived = once != "" && (req.Key == nil || req.Key.Name == "")
	if once != "" {
		c.fold(&req, once, derived)
	}
	return messages.Encode(&req), derived, nil
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

// on has a route send its body to a subject, for who may touch the backend that it names.
func on(subject string) func(*call) (any, error) {
	return func(c *call) (any, error) {
		if err := c.wantJSON(); err != nil {
			return nil, err
		}
		if c.who.namespaces != nil {
			var named struct {
				BackendID string        `json:"backend_id"`
				Key       *messages.Key `json:"key"`
			}
			if err := messages.ReadJSON(c.body, &named, false); err != nil {
				return nil, err
			}
			switch {
			case named.BackendID == "" && named.Key != nil:
				if !c.who.sees(named.Key.Namespace) {
					return nil, messages.Errorf(Forbidden, "key.namespace: %.60q is not one of those of the token %q", named.Key.Namespace, c.who.name)
				}
			default:
				if err := c.mayTouch(named.BackendID); err != nil {
					return nil, err
				}
			}
		}
		reply, err := c.pass(subject, c.body)
		return json.RawMessage(reply), err
	}
}

func (c *call) statusOf() (any, error) {
	if err := c.wantJSON(); err != nil {
		return nil, err
	}
	req, err := messages.Decode[messages.StatusRequest](c.body)
	switch {
	case err != nil:
		return nil, err
	case req.Key == nil:
		return c.owned(req.BackendID)
	case !c.who.sees(req.Key.Namespace):
		return nil, messages.Errorf(Forbidden, "key.namespace: %.60q is not one of those of the token %q", req.Key.Namespace, c.who.name)
	}
	reply, err := c.pass(messages.SubjectStatus, c.body)
	return json.RawMessage(reply), err
}

func (c *call) backend() (any, error) { return c.owned(c.r.PathValue("backend")) }

// backends lists a page. Of a token of some namespaces it leaves out what is another's: a page may be shorter than
// asked for, and go on.
func (c *call) backends() (any, error) {
	req, err := backendsOf(c.r.URL.Query())
	if err != nil {
		return nil, err
	}
	// Who sees one namespace need not go through all the others.
	if req.Key == nil && req.Namespace == nil && len(c.who.namespaces) == 1 {
		req.Namespace = &c.who.namespaces[0]
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

// backendsOf reads what is to be listed.
func backendsOf(query url.Values) (req messages.BackendsRequest, err error) {
	req.Drone = query.Get("drone")
	if req.Page, err = pageOf(query); err != nil {
		return req, err
	}
	if req.All, err = boolOf(query, "all"); err != nil {
		return req, err
	}
	namespace := query.Get("namespace")
	switch {
	case query.Has("key"):
		req.Key = &messages.Key{Name: query.Get("key"), Namespace: namespace}
	case query.Has("namespace"):
		req.Namespace = &namespace
	}
	for _, text := range query["status"] {
		var s messages.Status
		if err := s.UnmarshalText([]byte(text)); err != nil {
			return req, messages.Errorf(messages.BadRequest, "status: %.40q is none that a backend can have", text)
		}
		req.Statuses = append(req.Statuses, s)
	}
	if text := query.Get("changed_within_seconds"); text != "" {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return req, messages.Errorf(messages.BadRequest, "changed_within_seconds: must be a whole number, not %.40q", text)
		}
		req.ChangedWithinSeconds = &n
	}
	return messages.Decode[messages.BackendsRequest](messages.Encode(&req))
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
