package conformance

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/nats-io/nats.go/micro"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/messages"
)

// proxyTable is what a proxy is tried for, in order.
var proxyTable = []trial[*proxyBench]{
	{Check{"announce", "answers $SRV.STATS.jetway-proxy with its name and version", "requests-and-replies", nil}, (*proxyBench).announced},
	{Check{"route", "asks on its own subject where a token leads, and passes the request on to the address", "proxies", nil}, (*proxyBench).asks},
	{Check{"path", "passes the path on without the token, and the query as it is", "proxies", []string{"route"}}, (*proxyBench).passesPath},
	{Check{"verified", "tells the backend user, auth, secret and backend in x-verified-*", "what-a-backend-reads", []string{"route"}}, (*proxyBench).verifies},
	{Check{"forged", "drops what a visitor says in x-verified-*, in whatever writing", "what-a-backend-reads", []string{"verified"}}, (*proxyBench).dropsForged},
	{Check{"unknown", "answers 410 where a token leads nowhere", "proxies", nil}, (*proxyBench).refusesUnknown},
	{Check{"unavailable", "answers 503, and not 410, where the workers cannot say where a token leads", "proxies", nil}, (*proxyBench).staysUnsure},
	{Check{"held", "holds a request until its backend is ready, and passes on none before", "proxies", []string{"route"}}, (*proxyBench).holds},
	{Check{"no-address", "answers 502 at once where a backend is ready and has no address", "proxies", []string{"route"}}, (*proxyBench).hasNoAddress},
	{Check{"keepalive", "says at once that somebody is connected to a backend", "proxies", []string{"route"}}, (*proxyBench).tellsArrival},
	{Check{"keepalive-all", "names all that are connected every 10 s, in reports that are not partial", "proxies", []string{"route"}}, (*proxyBench).tellsAll},
	{Check{"keepalive-sleeps", "says at once whom it forwards to a backend whose route says sleeps, also after a report that named it with nobody connected", "proxies", []string{"keepalive-all"}}, (*proxyBench).tellsToWake},
	{Check{"keepalive-none", "says so when nobody is connected any more: by idle_ms, and then by not naming it, also when there are none", "proxies", []string{"keepalive-all"}}, (*proxyBench).tellsNone},
	{Check{"revoked", "cuts what is open with a token that is revoked and refuses it from then on, and no other token", "revoke", []string{"route"}}, (*proxyBench).cutsRevoked},
	{Check{"revoked-user", "does so for all tokens of a user", "revoke", []string{"route"}}, (*proxyBench).cutsUser},
	{Check{"ended", "passes nothing on to a backend that has ended, from the event on", "proxies", []string{"route"}}, (*proxyBench).forgetsEnded},
	{Check{"malformed", "ignores events that are malformed or of a type that it does not know", "events", []string{"route"}}, (*proxyBench).survivesMalformed},
	{Check{"unknown-fields", "ignores fields of replies and events that it does not know", "json", []string{"held"}}, (*proxyBench).ignoresUnknown},
	{Check{"expired", "asks anew when valid_for_ms is over", "proxies", []string{"route"}}, (*proxyBench).forgetsExpired},
	{Check{"trust", "trusts nothing that it was told longer ago than well below a minute", "proxies", []string{"route"}}, (*proxyBench).trustsShortly},
	{Check{"payloads", "sends what the protocol allows, and nothing else", "json", []string{"route"}}, func(b *proxyBench, _ context.Context) error { return b.faultless("payloads") }},
}

func (b *proxyBench) announced(ctx context.Context) error {
	var found []micro.Stats
	if b.polled(ctx, b.wait, func(ctx context.Context) bool {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		list, err := bus.Roll(ctx, b.nc, micro.StatsVerb, messages.ServiceProxies)
		if err != nil {
			return false
		}
		found = list
		return slices.ContainsFunc(list, func(s micro.Stats) bool {
			return s.Metadata["proxy"] == b.name && s.Metadata["version"] != "" && !s.Started.IsZero()
		})
	}) {
		return nil
	}
	return errNot(b.wait, "an answer with the metadata proxy %q and version, and started; %d answers came", b.name, len(found))
}

func (b *proxyBench) asks(ctx context.Context) error {
	token, _ := b.lead("route")
	if err := b.wants(ctx, token, http.StatusOK); err != nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.asked[token] == 0 {
			return fmt.Errorf("it did not ask on %s for the token: %w", messages.RouteSubject(b.name), err)
		}
		return err
	}
	return nil
}

// last is the last request that got to a backend.
func (b *proxyBench) last() hit {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.hits[len(b.hits)-1]
}

func (b *proxyBench) passesPath(ctx context.Context) error {
	token, _ := b.lead("path")
	const path = "/a%2Fb/c?x=1&y=%20"
	g, err := b.visit(ctx, "/"+token+path)
	switch {
	case err != nil:
		return err
	case !g.hit:
		return fmt.Errorf("the visitor got %s", g)
	case b.last().path != path:
		return fmt.Errorf("the backend was asked for %q, and the visitor asked for %q", b.last().path, path)
	}
	return nil
}

func (b *proxyBench) verifies(ctx context.Context) error {
	token, backend := b.lead("verified", func(r *messages.RouteResponse) { r.Auth = []byte(`{"role":"ünder"}`) })
	return b.reads(ctx, token, map[string]string{
		"X-Verified-Username": "Zo%C3%AB", "X-Verified-User-Data": `{"role":"\u00fcnder"}`, "X-Verified-Secret": "secret",
		"X-Verified-Path": "/" + token + "/", "X-Verified-Backend": backend,
	})
}

// reads visits, and compares headers that the backend reads.
func (b *proxyBench) reads(ctx context.Context, token string, want map[string]string, forged ...string) error {
	g, err := b.visit(ctx, "/"+token+"/", forged...)
	if err != nil {
		return err
	}
	if !g.hit {
		return fmt.Errorf("the visitor got %s", g)
	}
	var wrong []error
	for name, value := range want {
		if got := b.last().header[name]; !slices.Equal(got, []string{value}) {
			wrong = append(wrong, fmt.Errorf("%s is %q, want %q", name, got, value))
		}
	}
	return errors.Join(wrong...)
}

func (b *proxyBench) dropsForged(ctx context.Context) error {
	token, backend := b.lead("forged", func(r *messages.RouteResponse) { r.User, r.SecretToken = "", "" })
	forged := []string{"x-verified-username", "root", "X_Verified_Username", "root", "X.Verified.Secret", "forged", "X-Verified-User-Data", `{"role":"admin"}`, "X-Verified_Backend", "other"}
	if err := b.reads(ctx, token, map[string]string{"X-Verified-Username": "", "X-Verified-User-Data": "{}", "X-Verified-Secret": "", "X-Verified-Backend": backend}, forged...); err != nil {
		return err
	}
	for name, values := range b.last().header {
		if slices.ContainsFunc(values, func(v string) bool { return v == "root" || v == "forged" || v == "other" }) {
			return fmt.Errorf("%s: %q got through", name, values)
		}
	}
	return nil
}

func (b *proxyBench) refusesUnknown(ctx context.Context) error {
	token, _ := b.lead("unknown")
	b.set(func() { delete(b.routes, token) })
	return b.wants(ctx, token, http.StatusGone)
}

func (b *proxyBench) staysUnsure(ctx context.Context) error {
	token, _ := b.lead("unsure")
	b.set(func() { b.refusing[token] = messages.Errorf(messages.Unavailable, "Postgres cannot be reached") })
	if err := b.wants(ctx, token, http.StatusServiceUnavailable); err != nil {
		return err
	}
	b.set(func() { delete(b.refusing, token) })
	return b.wants(ctx, token, http.StatusOK)
}

func (b *proxyBench) holds(ctx context.Context) error { return b.holdsOne(ctx, "held") }

func (b *proxyBench) holdsOne(ctx context.Context, what string) error {
	token, backend := b.lead(what, func(r *messages.RouteResponse) { r.Status, r.Address = messages.Loading, "" })
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type outcome struct {
		got
		err error
	}
	answered := make(chan outcome, 1)
	go func() {
		g, err := b.visit(ctx, "/"+token+"/")
		answered <- outcome{g, err}
	}()
	if !b.until(ctx, func() bool { return b.asked[token] > 0 }) {
		return errNot(b.wait, "a question for the token")
	}
	for _, status := range []messages.Status{messages.Starting, messages.Waiting} {
		if err := b.reach(ctx, token, backend, status); err != nil {
			return err
		}
	}
	select {
	case o := <-answered:
		if o.err != nil {
			return o.err
		}
		return fmt.Errorf("while the backend was waiting, the visitor got %s", o.got)
	case <-time.After(time.Second):
	}
	if err := b.reach(ctx, token, backend, messages.Ready); err != nil {
		return err
	}
	switch o := <-answered; {
	case o.err != nil:
		return o.err
	case !o.hit || o.status != http.StatusOK:
		return fmt.Errorf("when the backend was ready, the visitor got %s", o.got)
	}
	return nil
}

// reach has a backend reach a status: in what workers know, and then by an event.
func (b *proxyBench) reach(ctx context.Context, token, backend string, status messages.Status) error {
	b.set(func() {
		r := b.routes[token]
		if r.Status = status; status >= messages.Waiting {
			r.Address = b.address
		}
		b.routes[token] = r
	})
	return b.state(ctx, backend, status)
}

func (b *proxyBench) hasNoAddress(ctx context.Context) error {
	token, _ := b.lead("nowhere", func(r *messages.RouteResponse) { r.Address = "" })
	return b.wants(ctx, token, http.StatusBadGateway)
}

// full waits for the next report that is not partial.
func (b *proxyBench) full(ctx context.Context) (k keepalive, err error) {
	b.mu.Lock()
	from := len(b.keepalives)
	b.mu.Unlock()
	wait := max(3*b.cfg.Keepalive/2, b.cfg.Keepalive+5*time.Second)
	if b.within(ctx, wait, func() bool {
		n := slices.IndexFunc(b.keepalives[from:], func(k keepalive) bool { return !k.Partial })
		if n >= 0 {
			k = b.keepalives[from+n]
		}
		return n >= 0
	}) {
		return k, nil
	}
	return k, errNot(wait, "a keepalive on %s that is not partial", messages.KeepaliveSubject(b.name))
}

func (b *proxyBench) tellsArrival(ctx context.Context) error {
	if _, err := b.full(ctx); err != nil {
		return err
	}
	token, backend := b.lead("arrives")
	b.mu.Lock()
	from := len(b.keepalives)
	b.mu.Unlock()
	_, leave, err := b.stream(ctx, token)
	if err != nil {
		return err
	}
	defer leave()
	if !b.within(ctx, b.cfg.Keepalive/2, func() bool {
		return slices.ContainsFunc(b.keepalives[from:], func(k keepalive) bool { _, named := k.idle(backend); return named })
	}) {
		return errNot(b.cfg.Keepalive/2, "a keepalive that names the backend")
	}
	return nil
}

func (b *proxyBench) tellsAll(ctx context.Context) error {
	token, backend := b.lead("all")
	_, leave, err := b.stream(ctx, token)
	if err != nil {
		return err
	}
	defer leave()
	for range 2 {
		k, err := b.full(ctx)
		if err != nil {
			return err
		}
		if idle, named := k.idle(backend); !named || idle != 0 {
			return fmt.Errorf("somebody is connected to %s, and a full report says %v, idle %d ms", backend, k.Backends, idle)
		}
	}
	return nil
}

func (b *proxyBench) tellsNone(ctx context.Context) error {
	token, backend := b.lead("none")
	_, leave, err := b.stream(ctx, token)
	if err != nil {
		return err
	}
	k, err := b.full(ctx)
	leave()
	if _, named := k.idle(backend); err == nil && !named {
		err = errors.New("a full report does not name a backend that somebody is connected to")
	}
	if err != nil {
		return err
	}
	for range 4 { // one may have been on its way, and another one tell of the close
		if k, err = b.full(ctx); err != nil {
			return err
		}
		if _, named := k.idle(backend); !named {
			return nil
		}
	}
	idle, _ := k.idle(backend)
	return fmt.Errorf("nobody is connected to %s for four reports, and the last one says idle %d ms", backend, idle)
}

func (b *proxyBench) cutsRevoked(ctx context.Context) error {
	token, backend := b.lead("revoked")
	other, _ := b.lead("revoked", func(r *messages.RouteResponse) { r.User = "Zoë" })
	sum := sha256.Sum256([]byte(token))
	return b.cuts(ctx, messages.TokenEvent{BackendID: backend, TokenSHA256: hex.EncodeToString(sum[:])}, token, other)
}

func (b *proxyBench) cutsUser(ctx context.Context) error {
	user := "Ada"
	token, backend := b.lead("user", func(r *messages.RouteResponse) { r.User = user })
	other, _ := b.lead("user")
	return b.cuts(ctx, messages.TokenEvent{BackendID: backend, User: &user}, token, other)
}

// cuts revokes one of two tokens of a backend while both are used.
func (b *proxyBench) cuts(ctx context.Context, event messages.TokenEvent, token, other string) error {
	over, leave, err := b.stream(ctx, token)
	if err != nil {
		return err
	}
	defer leave()
	goesOn, leaveOther, err := b.stream(ctx, other)
	if err != nil {
		return err
	}
	defer leaveOther()
	b.set(func() { delete(b.routes, token) })
	if err := b.revoked(ctx, event); err != nil {
		return err
	}
	if !b.closed(ctx, over) {
		return errNot(b.wait, "what was open with the token is cut")
	}
	if err := b.wants(ctx, token, http.StatusGone); err != nil {
		return err
	}
	select {
	case <-goesOn:
		return errors.New("what was open with another token was cut, too")
	default:
	}
	return b.wants(ctx, other, http.StatusOK)
}

func (b *proxyBench) forgetsEnded(ctx context.Context) error {
	token, backend := b.lead("ended")
	if err := b.wants(ctx, token, http.StatusOK); err != nil {
		return err
	}
	b.set(func() { delete(b.routes, token) })
	if err := b.state(ctx, backend, messages.Terminated); err != nil {
		return err
	}
	// The event may be on its way still. What answers at the address from now on is another backend.
	var g got
	if b.polled(ctx, b.wait, func(ctx context.Context) bool {
		var err error
		g, err = b.visit(ctx, "/"+token+"/")
		return err == nil && !g.hit
	}) && g.status == http.StatusGone {
		return nil
	}
	return fmt.Errorf("after the event that it is terminated the visitor got %s; want 410", g)
}

func (b *proxyBench) survivesMalformed(ctx context.Context) error {
	token, backend := b.lead("malformed")
	over, leave, err := b.stream(ctx, token)
	if err != nil {
		return err
	}
	defer leave()
	for _, event := range []string{`no JSON`, `[]`, `{}`, `{"type":"io.jetway.backend.v9.state","id":"x","backend_id":"` + backend + `","status":"asleep"}`, `{"type":"io.jetway.token.v1.revoked","id":"x","backend_id":7}`} {
		for _, subject := range []string{messages.BackendEventSubject(backend), messages.TokenEventSubject(backend)} {
			if err := b.publish(ctx, subject, []byte(event)); err != nil {
				return err
			}
		}
	}
	if err := b.wants(ctx, token, http.StatusOK); err != nil {
		return err
	}
	select {
	case <-over:
		return errors.New("what was open was cut")
	default:
		return nil
	}
}

func (b *proxyBench) ignoresUnknown(ctx context.Context) error {
	b.set(func() { b.extras = true })
	defer b.set(func() { b.extras = false })
	return b.holdsOne(ctx, "newer")
}

func (b *proxyBench) forgetsExpired(ctx context.Context) error {
	token, _ := b.lead("expired", func(r *messages.RouteResponse) { r.ValidForMS = 1000 })
	if err := b.wants(ctx, token, http.StatusOK); err != nil {
		return err
	}
	b.set(func() { delete(b.routes, token) })
	var g got
	if b.polled(ctx, b.wait, func(ctx context.Context) bool {
		var err error
		g, err = b.visit(ctx, "/"+token+"/")
		return err == nil && !g.hit
	}) && g.status == http.StatusGone {
		return nil
	}
	return fmt.Errorf("after valid_for_ms the visitor got %s; want 410", g)
}

func (b *proxyBench) trustsShortly(ctx context.Context) error {
	token, _ := b.lead("trust")
	if err := b.wants(ctx, token, http.StatusOK); err != nil {
		return err
	}
	b.set(func() { b.silent = true })
	defer b.set(func() { b.silent = false })
	var g got
	// A request that waits for the workers' answer takes a while, too.
	if !b.polled(ctx, b.cfg.Trust+15*time.Second, func(ctx context.Context) bool {
		var err error
		g, err = b.visit(ctx, "/"+token+"/")
		return err == nil && !g.hit
	}) {
		return fmt.Errorf("the workers have been silent for %s, and the visitor gets %s", b.cfg.Trust, g)
	}
	b.set(func() { b.silent = false })
	if !b.polled(ctx, b.wait, func(ctx context.Context) bool {
		g, err := b.visit(ctx, "/"+token+"/")
		return err == nil && g.hit
	}) {
		return errNot(b.wait, "the backend's answer, once the workers answer again")
	}
	return nil
}
