package proxy

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jetway-project/jetway/internal/boottime"
	"github.com/jetway-project/jetway/messages"
)

// route is where a token leads. But for word, nextAsk and dead it does not change once it is shared.
type route struct {
	token     string
	backend   string
	status    messages.Status
	address   string
	host      string // the one that requests must name
	own       bool   // the host is this backend's alone: cookies and the whole of the paths may be
	secure    bool   // browsers reach it by https
	user      string
	username  string // as a header
	userData  string // JSON in ASCII
	secret    string
	key       messages.Key // of the backend, for the access log
	resumable bool         // the key outlives the backend
	sleeps    bool         // it may be asleep while the route is remembered
	// bytesCount says that connections keep the backend awake only while bytes pass.
	bytesCount bool
	askedMark  uint64 // where the news stood when the worker was asked

	word    atomic.Pointer[word]
	nextAsk atomic.Int64 // the time since boot before which it is not asked for anew

	kept bool        // remembered: events find it
	dead atomic.Bool // revoked after it was remembered
}

// word is a worker's word that a route holds. Its times are those since boot: a machine that was
// suspended, and a proxy that was stopped, must see that time has passed.
type word struct {
	asked time.Duration // when the worker was asked; what it said was true at that moment or later
	life  time.Duration // how much longer the token lives, counted from then; 0: as long as its backend
}

// routeOverhead is what a remembered route takes beside its texts, in bytes.
const routeOverhead = 512

func newRoute(token string, askedAt time.Duration, mark uint64, r *messages.RouteResponse) *route {
	rt := &route{
		token:      token,
		backend:    r.BackendID,
		status:     r.Status,
		address:    r.Address,
		host:       hostOf(r.Cluster, r.Subdomain),
		own:        r.Subdomain != "",
		secure:     messages.Secure(r.Cluster),
		user:       r.User,
		username:   messages.HeaderUser(r.User),
		userData:   cmp.Or(messages.HeaderJSON(r.Auth), "{}"),
		secret:     r.SecretToken,
		resumable:  r.Resumable,
		sleeps:     r.Sleeps,
		bytesCount: r.Sleeps && r.SleepIgnoresIdleConnections,
		askedMark:  mark,
	}
	if r.Key != nil {
		rt.key = *r.Key
	}
	said := &word{asked: askedAt}
	if !isStatic(token) {
		// From before the worker looked, so never later than the token's end.
		said.life = max(time.Duration(r.ValidForMS)*time.Millisecond, 1)
	}
	rt.word.Store(said)
	return rt
}

// same says that two answers for one token lead to the same backend in the same way.
func (r *route) same(other *route) bool {
	return r.backend == other.backend && r.status == other.status && r.address == other.address && r.host == other.host &&
		r.user == other.user && r.userData == other.userData && r.secret == other.secret
}

// vouched takes in that a worker answered a question asked then, without saying that anything has changed.
func (r *route) vouched(asked time.Duration) {
	old := r.word.Load()
	said := &word{asked: asked}
	if old.life != 0 {
		said.life = old.asked + old.life - asked // its end is where it was
	}
	r.word.Store(said)
}

// due says that a route in use is to be asked for anew, so that the next word comes before this
// one is too old, and the token slides while it is used. It says so to one of those who ask at a time.
func (r *route) due(now, trust time.Duration) bool {
	said := r.word.Load()
	every := trust / 2
	if said.life != 0 {
		every = min(every, said.life/4)
	}
	next := r.nextAsk.Load()
	return now >= said.asked+every && now.Nanoseconds() >= next && r.nextAsk.CompareAndSwap(next, (now+min(every, time.Second)).Nanoseconds())
}

// slides says that the token is to be asked for because what was opened with it is open still: that is use, too.
func (r *route) slides(now time.Duration) bool {
	said := r.word.Load()
	return said.life != 0 && now >= said.asked+said.life/4
}

// open says that requests can be forwarded: the backend is ready, or was and
// still has time to finish.
func (r *route) open() bool { return r.status >= messages.Ready && r.address != "" && !r.ended() }

// addressless says that the backend is ready and has no address: its drone gave it none, and none comes any more.
func (r *route) addressless() bool { return r.status == messages.Ready && r.address == "" }

// ended says that the backend has ended, or leaves without ever having been reachable.
func (r *route) ended() bool {
	return r.status == messages.Terminated || r.status.Leaving() && r.address == ""
}

func (r *route) expired(now time.Duration) bool {
	said := r.word.Load()
	return said.life != 0 && now >= said.asked+said.life
}

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
	return routeOverhead + len(r.token) + len(r.host) + len(r.user) + len(r.username) + len(r.userData) + len(r.secret) + len(r.key.Name) + len(r.key.Namespace)
}

// routes remembers open routes within a bound of bytes (I8); beyond it, any
// other one makes room: it costs one question to have it back.
//
// What is remembered is trusted only for a bound from when a worker was asked for it, and if no
// event may have been missed since: then its backend had its address a moment ago, by the word of the
// database, and ports rest for longer than that. So no link leads to another's backend, whatever the
// proxy did not hear, and for however long it was stopped.
type routes struct {
	limit int
	trust time.Duration
	clock boottime.Clock
	gapAt atomic.Int64 // the time since boot at which events may have been missed last

	mu        sync.RWMutex
	known     map[string]*route              // by token
	byBackend map[string]map[string]struct{} // tokens
	bytes     int
	asking    map[string]*question // by token
	unknown   *unknown
}

func newRoutes(limit int, trust time.Duration, clock boottime.Clock) *routes {
	return &routes{
		limit: limit, trust: trust, clock: clock,
		known:     make(map[string]*route),
		byBackend: make(map[string]map[string]struct{}),
		asking:    make(map[string]*question),
		unknown:   newUnknown(unknownKept, unknownFor),
	}
}

// get gives the remembered route of token, or nil; whether it is trusted now; and whether it is remembered
// that the token leads nowhere.
func (s *routes) get(token string) (r *route, trusted, unknown bool) {
	now := s.clock()
	s.mu.RLock()
	if r = s.known[token]; r == nil {
		unknown = s.unknown.has(token, time.Now())
	}
	s.mu.RUnlock()
	if r != nil && r.expired(now) {
		s.drop(r)
		r = nil
	}
	return r, r != nil && s.trusts(r, now), unknown
}

// trusts says that r may be used now.
func (s *routes) trusts(r *route, now time.Duration) bool {
	asked := r.word.Load().asked
	return now-asked < s.trust && asked.Nanoseconds() > s.gapAt.Load()
}

// distrust has every route asked for before it is used again.
func (s *routes) distrust() { s.gapAt.Store(s.clock().Nanoseconds()) }

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
