package store

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/messages"
)

var routeSQL = `
select w.ix, b.id, b.namespace, b.name, b.tag, b.status, b.address, b.cluster, b.subdomain, t.username, t.auth, t.secret,
       case when t.expires_at < 'infinity' then ceil(extract(epoch from t.expires_at - now()) * 1000)::int8 else 0 end,
       t.expires_at < now() + make_interval(secs => t.lifetime_seconds) * 0.75, b.sleep_after_seconds is not null or b.nap > 0, b.sleep_ignores_idle, b.nap % 2 = 1,
       k.resume_seconds is not null, k.resume_seconds is not null and (b.status >= 60 or b.asked > 0 or k.over)
from unnest($1::bytea[]) with ordinality as w (hash, ix)
cross join lateral (select * from token t where t.hash = w.hash offset 0) t
cross join lateral (select * from backend b where b.id = t.backend_id offset 0) b
-- Of a static token: whether its key outlives the backend.
left join lateral (
    select l.resume_seconds, coalesce(l.sealed_until, (select s.expires_at from session s where s.drone = b.drone and s.id = b.session offset 0), '-infinity') <= now() as over
    from lease l
    where t.expires_at = 'infinity' and l.namespace = b.namespace and l.name = b.name and l.backend_id = b.id and l.released_at is null
    offset 0
) k on true
where t.expires_at > now() and b.status < 70
union all
-- A dormant key, whose backend has ended.
select w.ix, '', d.namespace, d.name, d.tag, 0, '', '', '', '', '', '', 0, false, false, false, false, true, true
from unnest($1::bytea[]) with ordinality as w (hash, ix)
cross join lateral (select * from dormant d where d.token_hash = w.hash offset 0) d
cross join lateral (select * from lease l where l.namespace = d.namespace and l.name = d.name and l.backend_id = d.backend_id offset 0) l
where l.released_at is not null and l.dormant_until > now()
union all
-- Static tokens that workers of an earlier build have stored as they are, until a worker seals them.
select w.ix, b.id, b.namespace, b.name, b.tag, b.status, b.address, b.cluster, b.subdomain, '', '', '', 0, false, b.sleep_after_seconds is not null or b.nap > 0, b.sleep_ignores_idle, b.nap % 2 = 1, false, false
from unnest($2::text[]) with ordinality as w (token, ix)
cross join lateral (select * from backend b where b.static_token = w.token and b.static_token <> '' offset 0) b
where w.token <> '' and b.status < 70`

// slideSQL lets tokens that are used live for as long again: at most once in a quarter of their life, whoever asks for
// them, for the row says so once it is locked. Who finds it locked finds that somebody else does it.
const slideSQL = `
update token t
set expires_at = now() + make_interval(secs => t.lifetime_seconds)
where t.hash = any(array(
        select u.hash from token u where u.hash = any($1::bytea[]) and u.expires_at > now() order by u.hash for no key update skip locked
    ))
    and t.expires_at < now() + make_interval(secs => t.lifetime_seconds) * 0.75
returning t.hash, t.lifetime_seconds`

// slide lets the tokens of routes live on. Where it cannot be written now, the next question does it.
func (s *Store) slide(ctx context.Context, due map[string]*Route) error {
	hashes := make([][]byte, 0, len(due))
	for hash := range due {
		hashes = append(hashes, []byte(hash))
	}
	rows, err := s.pool.Query(ctx, slideSQL, hashes)
	if err != nil {
		return err
	}
	var hash []byte
	var seconds int64
	_, err = pgx.ForEachRow(rows, []any{&hash, &seconds}, func() error {
		due[string(hash)].ValidForMS = seconds * 1000
		return nil
	})
	return err
}

// Route is where a token leads.
type Route struct {
	messages.RouteResponse // without a backend where the key is dormant
	// Gone says that who comes is to be led to the next backend of the key, which outlives this one: it has ended, or is leaving, or has lost
	// its lease.
	Gone bool
}

// Routes looks connection tokens up, for who uses them: nil for one that leads nowhere.
func (s *Store) Routes(ctx context.Context, tokens []string) ([]*Route, error) {
	hashes, statics := make([][]byte, len(tokens)), make([]string, len(tokens))
	for i, token := range tokens {
		if len(token) > len(messages.StaticTokenPrefix) && token[:len(messages.StaticTokenPrefix)] == messages.StaticTokenPrefix {
			statics[i] = token
		}
		hashes[i] = lease.HashToken(token)
	}
	routes := make([]*Route, len(tokens))
	rows, err := s.pool.Query(ctx, routeSQL, hashes, statics)
	if err != nil {
		return nil, wrap("look up routes", err)
	}
	var ix int64
	var r Route
	var key messages.Key
	var auth string
	var slides bool
	due := map[string]*Route{} // by the token's hash
	_, err = pgx.ForEachRow(rows, []any{
		&ix, &r.BackendID, &key.Namespace, &key.Name, &key.Tag, (*int16)(&r.Status), &r.Address, &r.Cluster, &r.Subdomain, &r.User, &auth, &r.SecretToken, &r.ValidForMS, &slides, &r.Sleeps, &r.SleepIgnoresIdleConnections, &r.Asleep, &r.Resumable, &r.Gone,
	}, func() error {
		route, of := r, key
		route.Key = &of
		if auth != "" {
			route.Auth = json.RawMessage(auth)
		}
		route.SecretToken = lease.OpenSecret(tokens[ix-1], r.SecretToken)
		if routes[ix-1] = &route; slides {
			due[string(hashes[ix-1])] = &route
		}
		return nil
	})
	if err == nil && len(due) > 0 {
		if err := s.slide(ctx, due); err != nil {
			s.log.WarnContext(ctx, "tokens that are used do not live on for now", "tokens", len(due), "err", err)
		}
	}
	return routes, wrap("look up routes", err)
}

var keepaliveSQL = statement("keepalive")

// Keepalive notes what a proxy says of backends.
func (s *Store) Keepalive(ctx context.Context, proxy string, r *messages.KeepaliveRequest) error {
	n := len(r.Backends)
	err := again(ctx, func() error {
		_, err := s.pool.Exec(ctx, keepaliveSQL, proxy, append([]string{}, r.Backends...), ofEach(r.IdleMS, n), r.Partial, ofEach(r.SilentMS, n))
		return err
	})
	return wrap("note connected backends", err)
}

// ofEach is list with a 0 for each of those past its end.
func ofEach(list []int64, n int) []int64 {
	return append(slices.Clip(list), make([]int64, max(0, n-len(list)))...)
}
