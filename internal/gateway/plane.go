package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/jetway-project/jetway/messages"
)

// Here is what Plane 0.5.6 answers, in its words where a client of Plane's could go by them.

// asPlane puts an error as Plane's clients know it, and gives its status. Kinds that Plane has not stay as they are.
func asPlane(e *messages.Error) int {
	switch e.Kind {
	case messages.Internal:
		e.Kind = "Other"
	case messages.NoDroneAvailable, messages.KeyHeldUnhealthy:
		return http.StatusInternalServerError
	case Unauthorized:
		return http.StatusUnauthorized
	}
	if e.Kind == "Other" {
		return http.StatusInternalServerError
	}
	return statusOf(e.Kind)
}

// planeState is a backend's status in Plane's words.
type planeState struct {
	Status messages.Status `json:"status"`
	Reason string          `json:"termination_reason,omitempty"`
	Kind   string          `json:"termination_kind,omitempty"`
	Failed *bool           `json:"exit_error,omitempty"`
	Time   int64           `json:"time"`
}

func asPlaneState(s *messages.State, at time.Time) planeState {
	p := planeState{Status: s.Status, Kind: string(s.Kind), Time: at.UnixMilli()}
	if s.Reason != messages.ReasonStartFailed { // Plane has none for it
		p.Reason = strings.ReplaceAll(string(s.Reason), "-", "")
	}
	if s.Status == messages.Terminated {
		failed := s.ExitCode != nil && *s.ExitCode != 0
		p.Failed = &failed
	}
	return p
}

func (c *call) planeHealth() (any, error) {
	if err := c.g.ready.look(c.g)(c.r.Context()); err != nil {
		return nil, messages.Errorf(messages.Internal, "Database health check failed: %v", err)
	}
	return json.RawMessage(`{"status":"ok"}`), nil
}

func (c *call) planeVersion() (any, error) {
	return map[string]string{"status": "ok", "version": c.g.cfg.Version, "hash": "jetway"}, nil
}

func (c *call) planeStatus() (any, error) {
	info, err := c.owned(c.r.PathValue("backend"))
	if messages.KindOf(err) == messages.NotFound {
		err = messages.Errorf(messages.NotFound, "Backend does not exist")
	}
	return asPlaneState(&info.State, info.ChangedAt), err
}

// planeStream is silent for a backend that is not there: one may listen before connecting.
func (c *call) planeStream() (any, error) {
	backend := c.r.PathValue("backend")
	if err := messages.CheckBackendID(backend); err != nil {
		return nil, messages.Errorf(messages.NotFound, "Backend does not exist")
	}
	if err := c.mayTouch(backend); err != nil {
		return nil, err
	}
	var last messages.Status
	_ = last.UnmarshalText([]byte(c.r.Header.Get("Last-Event-ID"))) // what is not known is ignored
	return c.streamOne(backend, int(last), (*frame).plane)
}

// plane is an event as Plane's streams have it.
func (f *frame) plane() []byte {
	if f.sleep != nil {
		return nil
	}
	f.planeOnce.Do(func() {
		f.planeText = fmt.Appendf(nil, "data: %s\nid: %s\n\n", messages.Encode(asPlaneState(&f.event.State, f.event.Time)), f.event.Status)
	})
	return f.planeText
}

// planeConnected has all fields always, as Plane's.
type planeConnected struct {
	BackendID   string          `json:"backend_id"`
	Spawned     bool            `json:"spawned"`
	Status      messages.Status `json:"status"`
	Token       string          `json:"token"`
	URL         string          `json:"url"`
	Subdomain   *string         `json:"subdomain"`
	SecretToken *string         `json:"secret_token"`
	StatusURL   string          `json:"status_url"`
	Drone       *string         `json:"drone"`
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func (c *call) planeConnect() (any, error) {
	if err := c.planeJSON(); err != nil {
		return nil, err
	}
	reply, err := c.grant()
	if messages.KindOf(err) == messages.BadRequest {
		err = c.planeRefusal(err, new(messages.ConnectRequest))
	}
	if err != nil {
		return nil, err
	}
	var r messages.ConnectResponse
	if err := json.Unmarshal(reply, &r); err != nil {
		return nil, fmt.Errorf("read the answer to a connect: %w", err)
	}
	return planeConnected{
		BackendID: r.BackendID, Spawned: r.Spawned, Status: r.Status, Token: r.Token, URL: r.URL, Subdomain: orNull(r.Subdomain),
		SecretToken: orNull(r.SecretToken), StatusURL: c.g.statusURL(r.BackendID), Drone: orNull(r.Drone),
	}, nil
}

// planeJSON refuses in plain text what Plane's framework refuses before Plane sees it.
func (c *call) planeJSON() error {
	if !c.isJSON() {
		c.plain(http.StatusUnsupportedMediaType, "Expected request with `Content-Type: application/json`")
		return handledError{}
	}
	if !json.Valid(c.body) {
		var value any
		c.plain(http.StatusBadRequest, "Failed to parse the request body as JSON: "+fmt.Sprint(json.Unmarshal(c.body, &value)))
		return handledError{}
	}
	return nil
}

// planeRefusal tells a body of another shape, which Plane's framework refuses in plain text, from values that Jetway
// refuses.
func (c *call) planeRefusal(err error, into any) error {
	refused, ok := errors.AsType[*messages.Error](err)
	if ok && (json.Unmarshal(c.body, into) != nil || strings.Contains(refused.Message, "is missing")) {
		c.plain(http.StatusUnprocessableEntity, "Failed to deserialize the JSON body into the target type: "+refused.Message)
		return handledError{}
	}
	return err
}

func (c *call) planeSoft() (any, error) { return c.planeTerminate(false) }
func (c *call) planeHard() (any, error) { return c.planeTerminate(true) }

func (c *call) planeTerminate(hard bool) (any, error) {
	backend := c.r.PathValue("backend")
	err := messages.CheckBackendID(backend)
	if err == nil {
		err = c.mayTouch(backend)
	} else {
		err = noBackend(backend)
	}
	if err == nil {
		_, err = ask[messages.Empty](c, messages.SubjectTerminate, messages.TerminateRequest{BackendID: backend, Hard: hard})
	}
	if messages.KindOf(err) == messages.NotFound {
		err = messages.Errorf(messages.NotFound, "Backend does not exist")
	}
	return json.RawMessage(`null`), err
}

func (c *call) planeRevoke() (any, error) {
	if err := c.planeJSON(); err != nil {
		return nil, err
	}
	req, err := messages.Decode[messages.RevokeRequest](c.body)
	if req.User == nil && req.Token == "" {
		err = messages.Errorf(messages.BadRequest, "user: is missing")
	}
	if err != nil {
		return nil, c.planeRefusal(err, new(messages.RevokeRequest))
	}
	if err := c.mayTouch(req.BackendID); err != nil {
		return nil, err
	}
	if _, err := ask[messages.RevokeResponse](c, messages.SubjectRevoke, req); err != nil && messages.KindOf(err) != messages.NotFound {
		return nil, err
	}
	if c.route.path == "/ctrl/revoke" {
		return json.RawMessage(`null`), nil // Plane's Rust client asks here, where Plane has nothing, and takes nothing else
	}
	return json.RawMessage(`"Token revoked successfully"`), nil
}

// planeNode is a drone as Plane's cluster state shows it.
type planeNode struct {
	Name         map[string]string `json:"name"`
	Version      string            `json:"plane_version"`
	Hash         string            `json:"plane_hash"`
	Controller   string            `json:"controller"`
	HeartbeatAge int64             `json:"controller_heartbeat_age"`
}

type planeDrone struct {
	Ready            bool      `json:"ready"`
	Draining         bool      `json:"draining"`
	LastHeartbeatAge int64     `json:"last_heartbeat_age"`
	BackendCount     int       `json:"backend_count"`
	Node             planeNode `json:"node"`
}

// planeCluster shows the drones that are heard. Proxies are not registered anywhere.
func (c *call) planeCluster() (any, error) {
	drones := []planeDrone{}
	err := c.eachDrone(func(d *messages.DroneInfo) bool {
		if d.Cluster == c.r.PathValue("cluster") && !d.Lost {
			drones = append(drones, planeDrone{
				Ready: d.Ready, Draining: d.Draining, LastHeartbeatAge: d.HeardMSAgo / 1000, BackendCount: d.Backends,
				Node: planeNode{Name: map[string]string{"Drone": d.Drone}, Version: d.Version, Hash: "jetway", Controller: "co-" + c.g.cfg.Name},
			})
		}
		return true
	})
	return map[string]any{"drones": drones, "proxies": []planeNode{}}, err
}

const (
	// dronePages bounds a walk through all drones, and walks how many go on at once.
	dronePages = 100
	walks      = 8
)

// eachDrone walks through all drones, as long as do says so.
func (c *call) eachDrone(do func(*messages.DroneInfo) bool) error {
	if c.g.listing.Add(1) > walks {
		c.g.listing.Add(-1)
		return messages.Errorf(messages.Overloaded, "too many ask for whole listings at once")
	}
	defer c.g.listing.Add(-1)
	req := messages.DronesRequest{}
	for range dronePages {
		page, err := ask[messages.DronesResponse](c, messages.SubjectDrones, req)
		if err != nil {
			return err
		}
		for i := range page.Drones {
			if !do(&page.Drones[i]) {
				return nil
			}
		}
		if page.Next == "" {
			return nil
		}
		req.After = page.Next
	}
	return messages.Errorf(messages.Overloaded, "there are too many drones to list at once: use /v1/drones")
}

func (c *call) planeDrain() (any, error) {
	name, known, draining := c.r.PathValue("drone"), false, false
	err := c.eachDrone(func(d *messages.DroneInfo) bool {
		known = d.Drone == name && d.Cluster == c.r.PathValue("cluster")
		draining = d.Draining
		return !known
	})
	if err == nil && !known {
		err = messages.Errorf(messages.NotFound, "Drone does not exist")
	}
	if err == nil && !draining {
		_, err = ask[messages.DrainResponse](c, messages.SubjectDrain, messages.DrainRequest{Drone: name})
	}
	return map[string]bool{"updated": !draining}, err
}
