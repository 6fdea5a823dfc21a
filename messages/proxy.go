package messages

import "encoding/json"

// RouteRequest asks where a connection token leads. NotFound when nowhere:
// unknown, expired or revoked token, ended backend.
type RouteRequest struct {
	Token string `json:"token"`
	// Open asks about what is open already: nobody comes, so the backend of a dormant key is not started for it.
	Open bool `json:"open,omitempty"`
}

// RouteResponse is a route.
type RouteResponse struct {
	BackendID string `json:"backend_id"`
	// Key is the backend's, for logs; nil from workers that do not say it.
	Key    *Key   `json:"key,omitempty"`
	Status Status `json:"status"`
	// Address is host:port; "" until the backend waits for its process.
	Address   string          `json:"address,omitempty"`
	Cluster   string          `json:"cluster"`
	Subdomain string          `json:"subdomain,omitempty"`
	User      string          `json:"user,omitempty"`
	Auth      json.RawMessage `json:"auth,omitempty"`
	// SecretToken is told to the backend as x-verified-secret.
	SecretToken string `json:"secret_token,omitempty"`
	// ValidForMS is how much longer the token lives; 0 for static tokens, which
	// live as long as their backend.
	ValidForMS int64 `json:"valid_for_ms,omitempty"`
	// Sleeps says that the backend may fall asleep while the route is remembered: who forwards somebody to it whom the last keepalive did not name as
	// connected says so at once. Asleep: it was asleep when the worker was asked, and has been woken by that.
	Sleeps bool `json:"sleeps,omitempty"`
	Asleep bool `json:"asleep,omitempty"`
	// SleepIgnoresIdleConnections is as its connect set it: [KeepaliveRequest.SilentMS] is said of the backend.
	SleepIgnoresIdleConnections bool `json:"sleep_ignores_idle_connections,omitempty"`
	// Resumable says that the key outlives the backend: once it has ended, who asks for the token is led to the key's next one.
	Resumable bool `json:"resumable,omitempty"`
}

// KeepaliveRequest names the backends with open or recent connections: all of them, unless
// it is partial.
type KeepaliveRequest struct {
	Backends []string `json:"backends"`
	// IdleMS says for each of Backends for how long nothing has been connected to it;
	// 0, as for those past its end: something is.
	IdleMS []int64 `json:"idle_ms,omitempty"`
	// SilentMS says for each of Backends that ignores idle connections for how long no byte has passed over those that are open; 0, as for those past its
	// end: one has since the last word, or a request is being answered, or the backend does not ignore them.
	SilentMS []int64 `json:"silent_ms,omitempty"`
	// Partial says that it does not name all: the rest follows, or was named before and
	// is as it was. Otherwise nobody is connected any more to what it does not name.
	Partial bool `json:"partial,omitempty"`
}

// MaxIdleMS bounds the numbers of [KeepaliveRequest], in milliseconds: a day.
const MaxIdleMS = 24 * 60 * 60 * 1000

// MaxToken is the length that no token exceeds, in bytes.
const MaxToken = 64

func (r *RouteRequest) validate() *Error {
	if r.Token == "" || len(r.Token) > MaxToken {
		return badField("token", "must have 1 to %d characters", MaxToken)
	}
	return checkText("token", r.Token, MaxToken)
}

func (r *KeepaliveRequest) validate() *Error {
	for field, list := range map[string][]int64{"idle_ms": r.IdleMS, "silent_ms": r.SilentMS} {
		if len(list) > len(r.Backends) {
			return badField(field, "has %d entries for %d backends", len(list), len(r.Backends))
		}
		for _, ms := range list {
			if ms < 0 || ms > MaxIdleMS {
				return badField(field, "must be 0 to %d", int64(MaxIdleMS))
			}
		}
	}
	return checkIDs("backends", r.Backends, MaxKeepalives)
}
