package messages

import (
	"encoding/json"
	"net"
	"net/netip"
	"strings"
)

// Key is what a backend is run for. Name and namespace identify it; the tag
// must match for a request to join.
type Key struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace,omitempty"`
	Tag       string `json:"tag,omitempty"`
}

// ConnectRequest asks for the backend that owns a key ([SubjectConnect]).
type ConnectRequest struct {
	// Key may be left out: then a backend is spawned under a random key.
	Key         *Key         `json:"key,omitempty"`
	SpawnConfig *SpawnConfig `json:"spawn_config,omitempty"`
	// User is passed on to the backend as x-verified-username; see [HeaderUser].
	User string `json:"user,omitempty"`
	// Auth is any JSON object; passed on as x-verified-user-data; see [HeaderJSON].
	Auth json.RawMessage `json:"auth,omitempty"`
	// TokenLifetimeSeconds is how long the token lives after its last use; nil: as long as the worker says.
	TokenLifetimeSeconds *int64 `json:"token_lifetime_seconds,omitempty"`
}

// OfOneToken gives the name of a field that only a token of one's own can carry, "" where the request
// has none. All who are given a static token share it.
func (r *ConnectRequest) OfOneToken() string {
	switch {
	case r.User != "":
		return "user"
	case len(r.Auth) > 0 && string(r.Auth) != "null" && HeaderJSON(r.Auth) != "{}":
		return "auth"
	case r.TokenLifetimeSeconds != nil:
		return "token_lifetime_seconds"
	}
	return ""
}

// SpawnConfig says what to run when the key is not held.
type SpawnConfig struct {
	// ID is the backend's id; random when "".
	ID string `json:"id,omitempty"`
	// Cluster may be left out where the worker has a default.
	Cluster string `json:"cluster,omitempty"`
	Pool    string `json:"pool,omitempty"`
	// Executable is read by the drone's runtime only. A JSON object.
	Executable json.RawMessage `json:"executable,omitempty"`
	// Template is the name of a template that is run instead: exactly one of the two. Cluster and Pool are the template's then; limits that
	// are left out are, too.
	Template string `json:"template,omitempty"`
	// LifetimeLimitSeconds counts from scheduling; nil: no limit.
	LifetimeLimitSeconds *int64 `json:"lifetime_limit_seconds,omitempty"`
	// MaxIdleSeconds counts from the last open connection; nil: no limit.
	MaxIdleSeconds *int64 `json:"max_idle_seconds,omitempty"`
	// SleepAfterSeconds is for how long nobody is connected before the backend is put to sleep, until somebody asks for it; nil: never. It is less
	// than the limits.
	SleepAfterSeconds *int64 `json:"sleep_after_seconds,omitempty"`
	// SleepIgnoresIdleConnections has the backend sleep while connections are open over which no byte passes: bytes count then, and not connections.
	SleepIgnoresIdleConnections bool `json:"sleep_ignores_idle_connections,omitempty"`
	// ResumeSeconds is for how long the key is dormant after the backend's end, for whatever reason but a terminate with forget: it keeps this
	// spawn_config and its static token, and whoever visits the URL, or connects without a spawn_config, starts it again; nil: not at all. It needs
	// a key and UseStaticToken.
	ResumeSeconds *int64 `json:"resume_seconds,omitempty"`
	// UseStaticToken gives the backend one token for its whole life, and those that its key has after it, as long as that is resumed.
	UseStaticToken bool   `json:"use_static_token,omitempty"`
	Subdomain      string `json:"subdomain,omitempty"`
	// Origin gives the backend a host of its own, Subdomain or a random label below the cluster, all
	// paths of which are its own; nil: as the worker says.
	Origin *bool `json:"origin,omitempty"`
}

// ConnectResponse is the way to the backend.
type ConnectResponse struct {
	BackendID string `json:"backend_id"`
	// Spawned says that this request started it.
	Spawned bool   `json:"spawned"`
	Status  Status `json:"status"`
	Token   string `json:"token"`
	URL     string `json:"url"`
	// Subdomain is set where the backend is reached through one only.
	Subdomain string `json:"subdomain,omitempty"`
	// SecretToken is shared with the backend (x-verified-secret); not with static tokens.
	SecretToken string `json:"secret_token,omitempty"`
	// Drone is set when Spawned.
	Drone string `json:"drone,omitempty"`
	// Resumes is the backend whose life this one's goes on: its key was dormant. Set when Spawned.
	Resumes string `json:"resumes,omitempty"`
	// SpawnConfigIgnored says that the request joined what runs already: its spawn_config had no part in it.
	SpawnConfigIgnored bool `json:"spawn_config_ignored,omitempty"`
}

func (r *ConnectRequest) validate() *Error {
	if r.Key != nil {
		if err := r.Key.validate(); err != nil {
			return err
		}
	}
	if r.SpawnConfig != nil {
		if err := r.SpawnConfig.validate(); err != nil {
			return err
		}
		if r.SpawnConfig.ResumeSeconds != nil && r.Key == nil {
			return badField("spawn_config.resume_seconds", "needs a key: nobody could ask for a random one again. Give a key, or leave it out")
		}
	}
	if err := checkText("user", r.User, MaxName); err != nil {
		return err
	}
	if strings.Trim(r.User, " ") != r.User {
		return badField("user", "must not begin or end with a blank: HTTP servers cut it off, and it would be another user's name")
	}
	if field := r.OfOneToken(); field != "" && r.SpawnConfig != nil && r.SpawnConfig.UseStaticToken {
		return badField(field, "cannot go with spawn_config.use_static_token: all who connect share that token. Leave out one of them")
	}
	if err := checkSeconds("token_lifetime_seconds", r.TokenLifetimeSeconds); err != nil {
		return err
	}
	return checkObject("auth", r.Auth, MaxAuth)
}

func (k *Key) validate() *Error {
	if k.Name == "" {
		return badField("key.name", "must not be empty")
	}
	if err := checkText("key.name", k.Name, MaxName); err != nil {
		return err
	}
	if err := checkText("key.namespace", k.Namespace, MaxName); err != nil {
		return err
	}
	return checkText("key.tag", k.Tag, MaxName)
}

func (c *SpawnConfig) validate() *Error {
	if c.ID != "" {
		if err := checkID("spawn_config.id", c.ID); err != nil {
			return err
		}
	}
	if c.Cluster != "" {
		if err := checkCluster("spawn_config.cluster", c.Cluster); err != nil {
			return err
		}
	}
	if err := checkText("spawn_config.pool", c.Pool, MaxName); err != nil {
		return err
	}
	if err := c.validateWhat(); err != nil {
		return err
	}
	if err := checkSeconds("spawn_config.lifetime_limit_seconds", c.LifetimeLimitSeconds); err != nil {
		return err
	}
	if err := checkSeconds("spawn_config.max_idle_seconds", c.MaxIdleSeconds); err != nil {
		return err
	}
	if err := c.checkSleepAfter(); err != nil {
		return err
	}
	if err := checkSeconds("spawn_config.resume_seconds", c.ResumeSeconds); err != nil {
		return err
	}
	if c.ResumeSeconds != nil && !c.UseStaticToken {
		return badField("spawn_config.resume_seconds", "needs spawn_config.use_static_token: the URL leads to the key's next backend only by a token that outlives the last. Set it, or leave resume_seconds out")
	}
	if c.Subdomain != "" {
		if err := checkLabel("spawn_config.subdomain", c.Subdomain); err != nil {
			return err
		}
	}
	if c.Origin != nil && *c.Origin && c.Cluster != "" && !Named(c.Cluster) {
		return badField("spawn_config.origin", "takes a cluster with a name, below which sessions have theirs, and %q is an IP address", c.Cluster)
	}
	return nil
}

// validateWhat: what is run is an executable or a template, and a template says itself where.
func (c *SpawnConfig) validateWhat() *Error {
	none := len(c.Executable) == 0 || string(c.Executable) == "null"
	switch {
	case none && c.Template == "":
		return badField("spawn_config.executable", "is missing, and so is spawn_config.template: one of them says what to run")
	case c.Template == "":
		return checkObject("spawn_config.executable", c.Executable, MaxExecutable)
	case !none:
		return badField("spawn_config.template", "cannot go with spawn_config.executable: leave out one of them")
	}
	return checkID("spawn_config.template", c.Template)
}

// checkObject: raw is absent, null or a JSON object of at most limit bytes.
func checkObject(field string, raw json.RawMessage, limit int) *Error {
	if len(raw) > limit {
		return badField(field, "is %d bytes long, at most %d are allowed", len(raw), limit)
	}
	if len(raw) > 0 && raw[0] != '{' && string(raw) != "null" {
		return badField(field, "must be a JSON object")
	}
	return nil
}

func checkSeconds(field string, n *int64) *Error {
	if n != nil && (*n < 1 || *n > MaxSeconds) {
		return badField(field, "must be 1 to %d seconds", MaxSeconds)
	}
	return nil
}

// Secure says whether browsers reach a cluster by https: when it has no port or :443.
func Secure(cluster string) bool {
	i := strings.LastIndexByte(cluster, ':')
	return i < 0 || cluster[i:] == ":443" || strings.HasSuffix(cluster, "]")
}

// EnterPath with a token behind it is where a browser enters a backend that has a host of its own: the proxy hands
// the token to a cookie and leads to the backend's root.
const EnterPath = "/.jetway/enter/"

// EnterURL is where a browser enters a backend that has a host of its own.
func EnterURL(cluster, subdomain, token string) string {
	return baseURL(cluster, subdomain) + EnterPath + token
}

// BackendURL is where a browser reaches a backend with a token in the path.
func BackendURL(cluster, subdomain, token string) string {
	return baseURL(cluster, subdomain) + "/" + token + "/"
}

func baseURL(cluster, subdomain string) string {
	scheme := "http://"
	if Secure(cluster) {
		scheme = "https://"
	}
	if subdomain != "" {
		cluster = subdomain + "." + cluster
	}
	return scheme + cluster
}

// Named says that a cluster is a name, below which there can be others, and not an IP address.
func Named(cluster string) bool {
	host := cluster
	if h, _, err := net.SplitHostPort(cluster); err == nil {
		host = h
	}
	_, err := netip.ParseAddr(host)
	return err != nil
}

// StaticTokenPrefix marks a token that lives as long as its backend.
const StaticTokenPrefix = "s."
