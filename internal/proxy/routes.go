package proxy

import (
	"crypto/sha256"
	"encoding/hex"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jetway-project/jetway/messages"
)

// route is where a token leads. But for dead it does not change once it is shared.
type route struct {
	token     string
	backend   string
	status    messages.Status
	address   string
	host      string // the one that requests must name
	own       bool   // the host is this backend's alone: cookies and the whole of the paths may be
	secure    bool   // browsers reach it by https
	user      string
	userData  string // JSON in ASCII
	secret    string
	expires   time.Time // by the monotonic clock; zero: with its backend
	askedMark uint64    // where the news stood when the worker was asked

	kept bool        // remembered: events find it
	dead atomic.Bool // revoked after it was remembered
}

// routeOverhead is what a remembered route takes beside its texts, in bytes.
const routeOverhead = 512

func newRoute(token string, askedAt time.Time, mark uint64, r *messages.RouteResponse) *route {
	rt := &route{
		token:     token,
		backend:   r.BackendID,
		status:    r.Status,
		address:   r.Address,
		host:      hostOf(r.Cluster, r.Subdomain),
		own:       r.Subdomain != "",
		secure:    messages.Secure(r.Cluster),
		user:      r.User,
		userData:  asciiJSON(r.Auth),
		secret:    r.SecretToken,
		askedMark: mark,
	}
	if !isStatic(token) {
		// From before the worker looked, so never later than the token's end.
		rt.expires = askedAt.Add(time.Duration(r.ValidForMS) * time.Millisecond)
	}
	return rt
}

// open says that requests can be forwarded: the backend is ready, or was and
// still has time to finish.
func (r *route) open() bool { return r.status >= messages.Ready && r.address != "" && !r.ended() }

// ended says that the backend has ended, or leaves without ever having been reachable.
func (r *route) ended() bool {
	return r.status == messages.Terminated || r.status.Leaving() && r.address == ""
}

func (r *route) expired(now time.Time) bool { return !r.expires.IsZero() && !now.Before(r.expires) }

// revokedBy says that the event means this token. Static ones cannot be revoked.
func (r *route) revokedBy(event *messages.TokenEvent) bool {
	if event.User != nil && *event.User != r.user || isStatic(r.token) {
		return false
	}
	if event.TokenSHA256 == "" {
		return true
	}
	sum := sha256.Sum256([]byte(r.token))
	return event.TokenSHA256 == hex.EncodeToString(sum[:])
}

func (r *route) size() int {
	return routeOverhead + len(r.token) + len(r.host) + len(r.user) + len(r.userData) + len(r.secret)
}

// routes remembers open routes within a bound of bytes (I8); beyond it, any
// other one makes room: it costs one question to have it back.
type routes struct {
	limit int

	mu        sync.RWMutex
	known     map[string]*route              // by token
	byBackend map[string]map[string]struct{} // tokens
	bytes     int
	asking    map[string]*question // by token
	unknown   *unknown
}

func newRoutes(limit int) *routes {
	return &routes{
		limit:     limit,
		known:     make(map[string]*route),
		byBackend: make(map[string]map[string]struct{}),
		asking:    make(map[string]*question),
		unknown:   newUnknown(unknownKept, unknownFor),
	}
}

// get gives the remembered route of token, or nil; and whether it is remembered that the
// token leads nowhere.
func (s *routes) get(token string) (r *route, unknown bool) {
	now := time.Now()
	s.mu.RLock()
	if r = s.known[token]; r == nil {
		unknown = s.unknown.has(token, now)
	}
	s.mu.RUnlock()
	if r != nil && r.expired(now) {
		s.drop(r)
		r = nil
	}
	return r, unknown
}

// putLocked remembers r.
func (s *routes) putLocked(r *route) {
	if old := s.known[r.token]; old != nil {
		s.dropLocked(old)
	}
	s.known[r.token] = r
	tokens := s.byBackend[r.backend]
	if tokens == nil {
		tokens = make(map[string]struct{})
		s.byBackend[r.backend] = tokens
	}
	tokens[r.token] = struct{}{}
	s.bytes += r.size()
	for _, other := range s.known {
		if s.bytes <= s.limit {
			break
		}
		s.dropLocked(other)
	}
}

// drop forgets r, unless another route of its token is remembered by now.
func (s *routes) drop(r *route) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known[r.token] == r {
		s.dropLocked(r)
	}
}

func (s *routes) dropLocked(r *route) {
	delete(s.known, r.token)
	s.bytes -= r.size()
	tokens := s.byBackend[r.backend]
	if delete(tokens, r.token); len(tokens) == 0 {
		delete(s.byBackend, r.backend)
	}
}

// dropBackend forgets all routes to a backend.
func (s *routes) dropBackend(backend string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for token := range s.byBackend[backend] {
		s.dropLocked(s.known[token])
	}
}

// dropRevoked forgets the routes of tokens that were revoked. Who is about to use one
// sees that it is dead.
func (s *routes) dropRevoked(event *messages.TokenEvent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for token := range s.byBackend[event.BackendID] {
		if r := s.known[token]; r.revokedBy(event) {
			r.dead.Store(true)
			s.dropLocked(r)
		}
	}
}

func (s *routes) count() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.known)
}

// clear forgets everything.
func (s *routes) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.known)
	clear(s.byBackend)
	s.bytes = 0
}
