//go:build linux

package torture_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/jetway-project/jetway/messages"
)

// op is one request of a client, from when to when, and what came of it.
type op struct {
	client     int
	what       string
	key        keyName
	call, done time.Duration
	outcome    outcome
	// refusal is the kind of a refusal.
	refusal messages.Kind
	message string
	// backendID is the one that was answered, or, where nothing was, the one asked for.
	backendID string
	spawned   bool
	tokenHash []byte // of a dynamic token
	url       string
}

func (o op) String() string {
	text := fmt.Sprintf("%9.3fs %9.3fs  client %d  %-9s %-6s %s %s", o.call.Seconds(), o.done.Seconds(), o.client, o.what, o.key, o.outcome, o.backendID)
	if o.spawned {
		text += " spawned"
	}
	if o.refusal != "" {
		text += " " + string(o.refusal) + ": " + o.message
	}
	return text
}

// clients connect, join, end, revoke and drain at random over few keys, so that they collide.
type clients struct {
	s     *system
	asker *asker
	keys  []keyName
	http  *http.Client
	home  string        // the network of this machine
	pause time.Duration // of each after each request, at most

	mu  sync.Mutex
	ops []op
	// links are tokens that were answered, for requests through the proxies.
	links []op
	asked atomic.Int64
	gets  atomic.Int64
}

const keys = 6

func newClients(s *system) *clients {
	c := &clients{s: s, asker: newAsker(s.t, s), pause: 150 * time.Millisecond}
	c.home, _ = os.Readlink("/proc/self/ns/net")
	for i := range keys {
		c.keys = append(c.keys, keyName{[]string{"", "team"}[i%2], fmt.Sprintf("k%d", i)})
	}
	c.http = &http.Client{
		Timeout:       4 * time.Second,
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c
}

// run is one client, until ctx ends.
func (c *clients) run(ctx context.Context, client int, random *rand.Rand) {
	for ctx.Err() == nil {
		switch n := random.IntN(100); {
		case n < 46:
			c.connect(ctx, client, random)
		case n < 62:
			c.browse(ctx, client, random)
		case n < 66:
			c.visit(ctx, client, random)
		case n < 70:
			c.nap(ctx, client, random)
		case n < 75:
			c.repeatNap(ctx, client, random)
		case n < 85:
			c.terminate(ctx, client, random)
		case n < 88:
			c.revoke(ctx, client, random)
		case n < 91:
			c.expireToken(ctx, client, random)
		case n < 95:
			c.forge(ctx, client, random)
		case n < 96:
			c.putTemplate(ctx, client, fmt.Sprint(random.IntN(3)))
		default:
			c.drain(ctx, client, random)
		}
		sleep(ctx, time.Duration(random.Int64N(int64(c.pause))))
	}
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func (c *clients) note(o op) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ops = append(c.ops, o)
	if o.outcome == granted && o.url != "" {
		if c.links = append(c.links, o); len(c.links) > 200 {
			c.links = c.links[100:]
		}
	}
}

// request asks and notes it.
func (c *clients) request(ctx context.Context, o op, subject string, req any, timeout time.Duration) (op, []byte) {
	c.asked.Add(1)
	o.call = c.s.now()
	data, refusal, out := c.asker.ask(ctx, subject, req, timeout)
	c.s.register.sync() // what had ended before the answer came
	o.done, o.outcome = c.s.now(), out
	if refusal != nil {
		o.refusal, o.message = refusal.Kind, refusal.Message
		if refusal.Kind == messages.Internal || refusal.Kind == messages.FailedToAcquireKey {
			c.s.failf("I7: a request was refused with %s: %s (id %s)", refusal.Kind, refusal.Message, refusal.ID)
		}
	}
	return o, data
}

func (c *clients) connect(ctx context.Context, client int, random *rand.Rand) {
	key := c.keys[random.IntN(len(c.keys))]
	// Of a request without an answer it can be told later whether it spawned.
	id := fmt.Sprintf("t%d-%d", client, c.asked.Add(1))
	character := []string{plain, plain, plain, plain, ignoreTerm, slowTerm, shortLived, failing}[random.IntN(8)]
	req := messages.ConnectRequest{
		Key:  &messages.Key{Name: key.name, Namespace: key.namespace},
		User: fmt.Sprintf("u%d", random.IntN(3)),
		SpawnConfig: &messages.SpawnConfig{
			ID: id, UseStaticToken: key == c.keys[0],
		},
	}
	if key == c.keys[0] {
		req.SpawnConfig.ResumeSeconds = new(int64(60))
	}
	if slices.Contains(c.keys[:keys/2], key) {
		req.SpawnConfig.Template = templateName
	} else {
		req.SpawnConfig.Executable = c.executable(character)
	}
	if req.SpawnConfig.UseStaticToken {
		req.User = "" // all share the token
	}
	if random.IntN(4) == 0 {
		req.SpawnConfig.LifetimeLimitSeconds = new(int64(2 + random.IntN(20)))
	}
	if random.IntN(4) == 0 {
		req.SpawnConfig.MaxIdleSeconds = new(int64(2 + random.IntN(10)))
	}
	if random.IntN(3) == 0 {
		req.SpawnConfig.SleepAfterSeconds, req.SpawnConfig.SleepIgnoresIdleConnections = new(int64(1)), random.IntN(2) == 0
	}
	if key == c.keys[0] && random.IntN(3) == 0 {
		req.SpawnConfig = nil // it joins, or resumes a dormant key
	}
	o, data := c.request(ctx, op{client: client, what: "connect", key: key, backendID: id},
		messages.SubjectConnect, req, time.Duration(200+random.IntN(4000))*time.Millisecond)
	if o.outcome == granted {
		var resp messages.ConnectResponse
		if err := json.Unmarshal(data, &resp); err != nil {
			c.s.failf("I7: a connect was answered with %q: %v", data, err)
			return
		}
		o.backendID, o.spawned, o.url = resp.BackendID, resp.Spawned, resp.Token
		if resp.SecretToken != "" {
			hash := sha256.Sum256([]byte(resp.Token))
			o.tokenHash = hash[:]
		}
		if resp.Spawned && resp.BackendID != id && req.SpawnConfig != nil {
			c.s.failf("I4: a connect with id %s spawned %s", id, resp.BackendID)
		}
	}
	c.note(o)
}

func (c *clients) executable(args ...string) json.RawMessage {
	return messages.Encode(map[string]any{
		"command": append([]string{backendName}, args...),
		"env":     map[string]string{registerEnv: c.s.register.path, homeEnv: c.home},
	})
}

// putTemplate changes the template, so that its spares are replaced.
func (c *clients) putTemplate(ctx context.Context, client int, version string) outcome {
	o, _ := c.request(ctx, op{client: client, what: "template", message: version}, messages.SubjectTemplatePut,
		messages.Template{Name: templateName, Executable: c.executable(plain, version), Spares: 1, ClaimPath: claimPath}, 2*time.Second)
	c.note(o)
	return o.outcome
}

// link gives one of the latest answers.
func (c *clients) link(random *rand.Rand) (op, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.links) == 0 {
		return op{}, false
	}
	latest := min(len(c.links), 30)
	return c.links[len(c.links)-1-random.IntN(latest)], true
}

// browse goes through a proxy: whoever answers must be the token's backend.
func (c *clients) browse(ctx context.Context, client int, random *rand.Rand) {
	link, ok := c.link(random)
	if !ok {
		return
	}
	o := op{client: client, what: "browse", key: link.key, backendID: link.backendID, call: c.s.now(), outcome: unknown}
	status, by, err := c.get(ctx, c.s.proxyAddrs[random.IntN(len(c.s.proxyAddrs))], link.url)
	o.done = c.s.now()
	if err == nil {
		o.message, o.outcome = fmt.Sprintf("%d from %q", status, by), refused
		c.gets.Add(1)
	}
	if status == http.StatusOK {
		o.outcome = granted
		c.ledRight(link, by)
	}
	c.note(o)
}

// ledRight wants a token to have led to its backend; that of a key that outlives its backends, to one of that key.
func (c *clients) ledRight(link op, by string) {
	if link.key != c.keys[0] {
		if by != link.backendID {
			c.s.failf("I1: the token of backend %s led to %q", link.backendID, by)
		}
		return
	}
	if l, known := c.s.register.of(by); known && l.key() != link.key {
		c.s.failf("I1: the token of key %s led to %q of key %s", link.key, by, l.key())
	}
}

// herd is how many come to one URL at once.
const herd = 4

// visit is a herd of visitors at the URL of a key that outlives its backends, at all proxies: where the key is dormant they start it, once.
func (c *clients) visit(ctx context.Context, client int, random *rand.Rand) {
	link, ok := c.resumable()
	if !ok {
		return
	}
	var all sync.WaitGroup
	for i := range herd {
		proxy := c.s.proxyAddrs[(i+random.IntN(len(c.s.proxyAddrs)))%len(c.s.proxyAddrs)]
		all.Go(func() {
			o := op{client: client, what: "visit", key: link.key, call: c.s.now(), outcome: unknown}
			status, by, err := c.get(ctx, proxy, link.url)
			o.done = c.s.now()
			if err == nil {
				o.message, o.outcome = fmt.Sprintf("%d from %q", status, by), refused
				c.gets.Add(1)
			}
			if status == http.StatusOK {
				o.outcome = granted
				c.ledRight(link, by)
			}
			c.note(o)
		})
	}
	all.Wait()
}

// resumable gives the latest link to a key that outlives its backends.
func (c *clients) resumable() (op, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, link := range slices.Backward(c.links) {
		if link.key == c.keys[0] {
			return link, true
		}
	}
	return op{}, false
}

func (c *clients) get(ctx context.Context, proxy, token string) (status int, backend string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+proxy+"/"+token+"/", http.NoBody)
	if err != nil {
		return 0, "", err
	}
	req.Host = cluster
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, resp.Header.Get("Backend"), nil
}

func (c *clients) terminate(ctx context.Context, client int, random *rand.Rand) {
	link, ok := c.link(random)
	if !ok {
		return
	}
	o, _ := c.request(ctx, op{client: client, what: "terminate", key: link.key, backendID: link.backendID},
		messages.SubjectTerminate, messages.TerminateRequest{BackendID: link.backendID, Hard: random.IntN(2) == 0}, 3*time.Second)
	c.note(o)
}

func (c *clients) revoke(ctx context.Context, client int, random *rand.Rand) {
	link, ok := c.link(random)
	if !ok {
		return
	}
	o, _ := c.request(ctx, op{client: client, what: "revoke", key: link.key, backendID: link.backendID},
		messages.SubjectRevoke, messages.RevokeRequest{BackendID: link.backendID, User: new("u1")}, 3*time.Second)
	c.note(o)
}

// expireToken lets an hour pass for a token that no proxy knows yet: it leads nowhere then.
func (c *clients) expireToken(ctx context.Context, client int, random *rand.Rand) {
	running := c.s.register.running()
	if len(running) == 0 {
		return
	}
	l := running[random.IntN(len(running))]
	req := messages.ConnectRequest{Key: &messages.Key{Name: l.Key, Namespace: l.Namespace}}
	o, data := c.request(ctx, op{client: client, what: "connect", key: l.key()}, messages.SubjectConnect, req, 2*time.Second)
	var resp messages.ConnectResponse
	if o.outcome != granted || json.Unmarshal(data, &resp) != nil || resp.SecretToken == "" {
		return // there is nothing that expires
	}
	hash := sha256.Sum256([]byte(resp.Token))
	if c.s.audit.exec("update token set expires_at = now() - interval '1 second' where hash = $1", hash[:]) != nil {
		return // Postgres is away
	}
	status, by, err := c.get(ctx, c.s.proxyAddrs[random.IntN(len(c.s.proxyAddrs))], resp.Token)
	if err == nil && status == http.StatusOK {
		c.s.failf("tokens: one that had expired led to backend %s", by)
	}
}

// forge reports the end of a backend in the name of a drone that does not have it.
func (c *clients) forge(ctx context.Context, client int, random *rand.Rand) {
	type victim struct{ ID, Drone, Forger, Session string }
	found, err := rows(c.s.audit, pgx.RowToStructByPos[victim], `
		select b.id, b.drone, d.name, d.session from backend b join drone d on d.name <> b.drone
		where b.status < 60 order by random() limit 1`)
	if err != nil || len(found) == 0 {
		return
	}
	v := found[0]
	o, _ := c.request(ctx, op{client: client, what: "forge", backendID: v.ID}, messages.ReportSubject(v.Forger), messages.ReportRequest{
		Session: v.Session, Reports: []messages.Report{{BackendID: v.ID, State: messages.State{Status: messages.Terminating, Reason: messages.ReasonExternal}}},
	}, 2*time.Second)
	// A backend that was refused and placed again may be the forger's by now.
	if o.outcome == granted {
		now, err := query[string](c.s.audit, "select drone from backend where id = $1", v.ID)
		if err == nil && now != v.Forger {
			c.s.failf("I1: a report of %s about backend %s, which is %s's, was accepted", v.Forger, v.ID, v.Drone)
		}
	}
	c.note(o)
}

// drain takes one drone out for a moment, so that there are always some left.
func (c *clients) drain(ctx context.Context, client int, random *rand.Rand) {
	drone := c.s.drones[0].name
	subject, what := messages.SubjectDrain, "drain"
	if random.IntN(3) > 0 {
		subject, what = messages.SubjectUndrain, "undrain"
	}
	o, _ := c.request(ctx, op{client: client, what: what, message: drone}, subject, messages.DrainRequest{Drone: drone}, 2*time.Second)
	c.note(o)
}
