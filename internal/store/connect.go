package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/internal/outbox"
	"github.com/jetway-project/jetway/messages"
)

// connectSQL settles a batch of keys: one entry of the arrays $1…$15 a key, $20…$25 a token.
//
// All of it sees one snapshot, except what the lease's row says once it is
// locked: "on conflict … where" decides there, on the row as it is then, so of
// two statements that race for a key one acquires it and the other gets no row.
// Everything else that is written hangs on the rows that were acquired (I4).
var connectSQL = `
with want as materialized (
    select *
    from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bool[], $6::text[], $7::text[], $8::text[],
                $9::text[], $10::text[], $11::text[], $12::int8[], $13::int8[], $14::text[], $15::text[])
         with ordinality as w (namespace, name, tag, backend_id, id_given, cluster, pool, drone,
                session, subdomain, static_token, lifetime_seconds, max_idle_seconds, body, traceparent, ix)
),
` + heldCTE + `,
full_drones as materialized (
    select d.name from drone d where d.name = any($8::text[]) and ` + isFull + `
),
-- May be spawned, should nobody hold the key: the drone that was picked still
-- qualifies in the session that was picked, and the id is free.
placed as materialized (
    select w.*, d.drone_time_ms
    from want w
    join drone d on d.name = w.drone and d.session = w.session
    where d.ready and not d.draining and d.heard_at > now() - make_interval(secs => $17)
      and not exists (select from full_drones f where f.name = w.drone)
      and not exists (select from held h where h.ix = w.ix)
      and not exists (select from backend b where b.id = w.backend_id offset 0)
),
acquired as (
    insert into lease as l (namespace, name, tag, backend_id, fencing_token, expires_at)
    select namespace, name, tag, backend_id, nextval('fencing_token'), now() + make_interval(secs => $16)
    from placed
    order by namespace, name
    on conflict (namespace, name) do update set
        tag                 = excluded.tag,
        previous_backend_id = l.backend_id,
        backend_id          = excluded.backend_id,
        -- I2, also against a statement that drew its number early and waited.
        fencing_token       = greatest(excluded.fencing_token, l.fencing_token + 1),
        expires_at          = excluded.expires_at,
        released_at         = null,
        renewable           = true
    where l.released_at is not null or l.expires_at <= now()
    returning l.backend_id, l.previous_backend_id, l.fencing_token
),
-- "is true" keeps the look-up among the acquired a hashed one.
spawned as materialized (
    select p.* from placed p where (p.backend_id in (select a.backend_id from acquired a)) is true
),
born as (
    insert into backend (id, namespace, name, tag, cluster, pool, drone, session, subdomain,
                         static_token, status, lifetime_ends_at, max_idle_seconds, due_at)
    select backend_id, namespace, name, tag, cluster, pool, drone, session, subdomain,
           static_token, 10, now() + make_interval(secs => nullif(lifetime_seconds, 0)), nullif(max_idle_seconds, 0),
           now() + make_interval(secs => least($16, nullif(lifetime_seconds, 0), nullif(max_idle_seconds, 0)))
    from spawned
),
-- Who held an expired lease ends as lost: what lifecycle.Step does on Lost.
lost as (
    update backend b
    set status = 70, last_status = b.status, termination_kind = '', termination_reason = 'lost', asked = 2,
        revision = b.revision + 1, changed_at = now(), ended_at = now()
    where b.id = any(array(select a.previous_backend_id from acquired a)) and b.status < 70
    returning b.id, b.drone, b.last_status
),
lost_rows as materialized (
    select l.*, nextval('outbox_id') as state_row, nextval('outbox_id') as terminate_row from lost l
),
-- Nobody may run it any more. What is left of its spawn is the state that it stands
-- for, which perhaps nobody has published yet (I5): keepScheduledSQL.
withdrawn as (
    update outbox o set kind = 'state', until_status = null, body = ''
    where o.backend_id = any(array(select l.id from lost l)) and o.kind = 'spawn'
),
tokens as (
    insert into token (hash, backend_id, username, auth, secret, expires_at)
    select t.hash, r.backend_id, t.username, t.auth, t.secret, now() + make_interval(secs => $18)
    from unnest($20::int8[], $21::text[], $22::bytea[], $23::text[], $24::text[], $25::text[])
         as t (ix, tag, hash, username, auth, secret)
    join (select ix, tag, backend_id, static_token from held where status < 60
          union all
          select ix, tag, backend_id, static_token from spawned) r
      on r.ix = t.ix and r.tag = t.tag and r.static_token = ''
),
published as (
    insert into outbox (id, kind, backend_id, drone, status, last_status, until_status, body, drone_time_ms, traceparent)
    select state_row, 'state', id, drone, 70, last_status, null, $19::text, 0, '' from lost_rows
    union all
    select terminate_row, 'terminate', id, drone, 0, 0, 70, '{"hard":true,"reason":"lost"}', 0, '' from lost_rows
    union all
    select nextval('outbox_id'), 'spawn', backend_id, drone, 10, 0, 20, body, drone_time_ms, traceparent from spawned
)
select 1 as result, ix, backend_id, tag, status, cluster, subdomain, static_token, fencing_token,
       extract(epoch from expires_at - now())::float8 as expires_in, 0::int8 as drone_time_ms, now() as at, '' as drone
from held
union all
select 2, ix, backend_id, tag, 10, cluster, subdomain, static_token, 0, 0, drone_time_ms, now(), drone
from spawned
union all
select 3, 0, backend_id, coalesce(previous_backend_id, ''), 0, '', '', '', fencing_token, 0, 0, now(), ''
from acquired
union all
select 4, 0, id, '', last_status, '', '', '', 0, 0, 0, now(), drone
from lost_rows
union all
select 5, w.ix, w.backend_id, '', 0, '', '', '', 0, 0, 0, now(), ''
from want w
where w.id_given
  and exists (select from backend b where b.id = w.backend_id offset 0)
  and not exists (select from held h where h.ix = w.ix)`

// heldCTE is who holds the keys that are wanted now, by the database's clock.
const heldCTE = `held as materialized (
    select w.ix, l.tag, l.backend_id, l.fencing_token, l.expires_at, b.status, b.cluster, b.subdomain, b.static_token
    from want w
    cross join lateral (select * from lease l where l.namespace = w.namespace and l.name = w.name offset 0) l
    cross join lateral (select * from backend b where b.id = l.backend_id offset 0) b
    where l.released_at is null and l.expires_at > now()
)`

// joinSQL is connectSQL for keys of which none may be spawned: a fifth of its
// parts, and half of its cost.
const joinSQL = `
with want as materialized (
    select * from unnest($1::text[], $2::text[]) with ordinality as w (namespace, name, ix)
),
` + heldCTE + `,
tokens as (
    insert into token (hash, backend_id, username, auth, secret, expires_at)
    select t.hash, r.backend_id, t.username, t.auth, t.secret, now() + make_interval(secs => $3)
    from unnest($4::int8[], $5::text[], $6::bytea[], $7::text[], $8::text[], $9::text[])
         as t (ix, tag, hash, username, auth, secret)
    join held r on r.ix = t.ix and r.tag = t.tag and r.static_token = '' and r.status < 60
)
select ix, backend_id, tag, status, cluster, subdomain, static_token,
       extract(epoch from expires_at - now())::float8 as expires_in
from held`

// tokenLifetime is how long a dynamic token leads anywhere (design, section 3).
const tokenLifetime = time.Hour

// lostBody is the body of the state of a backend that lost its lease to another.
var lostBody = string(messages.Encode(messages.State{Status: messages.Terminated, Reason: messages.ReasonLost}))

// Connect settles a batch (lease.Store).
func (s *Store) Connect(ctx context.Context, wants []lease.Want) ([]lease.Got, []outbox.Row, error) {
	if !slices.ContainsFunc(wants, func(w lease.Want) bool { return w.Spawn != nil }) {
		got, err := s.join(ctx, wants)
		return got, nil, err
	}
	got, rows, err := s.connect(ctx, connectSQL, wants)
	if err != nil {
		return nil, nil, err
	}
	var left []lease.Want
	var places []int
	for i := range wants {
		if got[i].Result == lease.Unsettled && wants[i].Spawn != nil {
			left, places = append(left, wants[i]), append(places, i)
		}
	}
	if len(left) == 0 {
		return got, rows, nil
	}
	taken, more, err := s.connect(ctx, takeoverSQL, left)
	switch {
	case err == nil:
		for n, i := range places {
			got[i] = taken[n]
		}
	case len(left) == len(wants):
		return nil, nil, err
	default:
		// What is settled is: the others are left for another try, which will say what is wrong.
	}
	return got, append(rows, more...), nil
}

// connect settles a batch in one statement: connectSQL, or takeoverSQL.
func (s *Store) connect(ctx context.Context, sql string, wants []lease.Want) ([]lease.Got, []outbox.Row, error) {
	args := append(joinArgs(wants), s.spawnArgs(wants)...)
	if sql == takeoverSQL {
		args = append(args, lostBody)
	}
	var got []lease.Got
	var rows []outbox.Row
	var lost []string
	err := again(ctx, func() error {
		result, err := s.pool.Query(ctx, sql, args...)
		if err != nil {
			return err
		}
		answer := connectAnswer{wants: wants, got: make([]lease.Got, len(wants))}
		if _, err = pgx.ForEachRow(result, answer.row.fields(), answer.add); err != nil {
			return err
		}
		got, rows, lost = answer.got, answer.outboxRows(), answer.lostIDs()
		return nil
	})
	switch {
	case err == nil && len(lost) > 0:
		return got, append(s.statesOf(ctx, lost), rows...), nil
	case err == nil:
		return got, rows, nil
	case code(err) == codeUnique:
		// Another statement took a backend id that was free in the snapshot.
		return nil, nil, fmt.Errorf("connect %d keys: %w: %w", len(wants), lease.ErrRaced, err)
	}
	return nil, nil, wrap(fmt.Sprintf("connect %d keys", len(wants)), err)
}

// statesOf are the states of backends that are still to be published, the last one
// included. Should they not be had, the rows fall due, all of them in order.
func (s *Store) statesOf(ctx context.Context, backends []string) []outbox.Row {
	rows, err := read(ctx, s, scanOutbox, unpublishedSQL, backends)
	if err != nil {
		return nil
	}
	return rows
}

func (s *Store) join(ctx context.Context, wants []lease.Want) ([]lease.Got, error) {
	args := joinArgs(wants)
	got := make([]lease.Got, len(wants))
	err := again(ctx, func() error {
		result, err := s.pool.Query(ctx, joinSQL, args...)
		if err != nil {
			return err
		}
		var ix int64
		var expiresIn float64
		g := lease.Got{Result: lease.Held}
		_, err = pgx.ForEachRow(result, []any{
			&ix, &g.BackendID, &g.Tag, (*int16)(&g.Status), &g.Cluster, &g.Subdomain, &g.StaticToken, &expiresIn,
		}, func() error {
			g.ExpiresIn = time.Duration(expiresIn * float64(time.Second))
			got[ix-1] = g
			return nil
		})
		return err
	})
	return got, wrap(fmt.Sprintf("join %d keys", len(wants)), err)
}

// The kinds of rows that the statements give: what became of a key, and who lost one.
const (
	rowHeld = iota + 1
	rowSpawned
	rowLost
	rowIDTaken
)

// connectRow is one row of what they give.
type connectRow struct {
	kind                            int
	ix                              int64
	backendID, tag                  string
	status                          messages.Status
	cluster, subdomain, staticToken string
	fencingToken                    int64
	expiresIn                       float64
	droneTimeMS                     int64
	at                              time.Time
	other                           string // of what was spawned, who held the key before; of who lost it, its drone
}

func (r *connectRow) fields() []any {
	return []any{
		&r.kind, &r.ix, &r.backendID, &r.tag, (*int16)(&r.status), &r.cluster, &r.subdomain, &r.staticToken,
		&r.fencingToken, &r.expiresIn, &r.droneTimeMS, &r.at, &r.other,
	}
}

// connectAnswer puts the rows together.
type connectAnswer struct {
	wants   []lease.Want
	row     connectRow
	got     []lease.Got
	spawned []connectRow
	lost    []connectRow
}

// add takes the row just scanned.
func (a *connectAnswer) add() error {
	r := a.row
	switch r.kind {
	case rowHeld, rowSpawned:
		result := lease.Held
		if r.kind == rowSpawned {
			result = lease.Acquired
			a.spawned = append(a.spawned, r)
		}
		a.got[r.ix-1] = lease.Got{
			Result: result, BackendID: r.backendID, Tag: r.tag, Status: r.status, Cluster: r.cluster,
			Subdomain: r.subdomain, StaticToken: r.staticToken,
			ExpiresIn: time.Duration(r.expiresIn * float64(time.Second)),
		}
	case rowLost:
		a.lost = append(a.lost, r)
	case rowIDTaken:
		a.got[r.ix-1].Result = lease.IDTaken
	}
	return nil
}

// lostIDs are the backends that lost their key to another.
func (a *connectAnswer) lostIDs() (ids []string) {
	for i := range a.lost {
		ids = append(ids, a.lost[i].backendID)
	}
	return ids
}

// outboxRows are the actions to publish: first of those that lost their key, then
// of those that got it.
func (a *connectAnswer) outboxRows() (rows []outbox.Row) {
	ended := make(map[string]bool, len(a.lost))
	for i := range a.lost {
		r := &a.lost[i]
		ended[r.backendID] = true
		rows = append(rows, outbox.Row{
			Kind: outbox.KindTerminate, BackendID: r.backendID, Drone: r.other, At: r.at,
			Body: messages.Encode(messages.Terminate{Hard: true, Reason: messages.ReasonLost}),
		})
	}
	for i := range a.spawned {
		r := &a.spawned[i]
		if ended[r.other] {
			a.got[r.ix-1].TookOver = r.other
		}
		spawn := a.wants[r.ix-1].Spawn
		rows = append(rows, outbox.Row{
			Kind: outbox.KindSpawn, BackendID: r.backendID, Drone: spawn.Drone, Status: messages.Scheduled,
			Spawn: &spawn.Message, Body: spawn.Body, FencingToken: r.fencingToken, DroneTimeMS: r.droneTimeMS,
			Traceparent: spawn.Traceparent, At: r.at,
		})
	}
	return rows
}

// joinArgs are $1…$14: the keys, each with its first token, how long tokens live, and the further tokens.
func joinArgs(wants []lease.Want) []any {
	n := len(wants)
	texts := make([]string, 6*n)
	namespaces, names, tags, users, auths, secrets := texts[:n], texts[n:2*n], texts[2*n:3*n], texts[3*n:4*n], texts[4*n:5*n], texts[5*n:]
	hashes := make([][]byte, n)
	var more furtherTokens
	for i := range wants {
		w := &wants[i]
		namespaces[i], names[i], tags[i] = w.Key.Namespace, w.Key.Name, w.Key.Tag
		for _, t := range w.Tokens {
			if hashes[i] == nil && t.Tag == w.Key.Tag {
				hashes[i], users[i], auths[i], secrets[i] = t.Hash, t.User, string(t.Auth), t.Secret
			} else {
				more.add(int64(i)+1, t)
			}
		}
	}
	return append([]any{namespaces, names, tags, hashes, users, auths, secrets, tokenLifetime.Seconds()}, more.args()...)
}

// furtherTokens are arrays of tokens, each with the number of its want.
type furtherTokens struct {
	ixs                         []int64
	hashes                      [][]byte
	tags, users, auths, secrets []string
}

func (f *furtherTokens) add(ix int64, t lease.Token) {
	f.ixs, f.tags, f.hashes = append(f.ixs, ix), append(f.tags, t.Tag), append(f.hashes, t.Hash)
	f.users, f.auths, f.secrets = append(f.users, t.User), append(f.auths, string(t.Auth)), append(f.secrets, t.Secret)
}

func (f *furtherTokens) args() []any {
	return []any{f.ixs, f.tags, f.hashes, f.users, f.auths, f.secrets}
}

// spawnArgs are $15…$27: what may be spawned for each key, the drones, and the terms.
func (s *Store) spawnArgs(wants []lease.Want) []any {
	n := len(wants)
	texts := make([]string, 5*n)
	ids, subdomains, statics, bodies, traces := texts[:n], texts[n:2*n], texts[2*n:3*n], texts[3*n:4*n], texts[4*n:]
	given := make([]bool, n)
	numbers := make([]int64, 3*n)
	hosts, lifetimes, idles := numbers[:n], numbers[n:2*n], numbers[2*n:]
	var drones, sessions []string
	numberOf := make(map[[2]string]int64)
	for i := range wants {
		spawn := wants[i].Spawn
		if spawn == nil {
			continue // its host is 0, which none is
		}
		host := [2]string{spawn.Drone, spawn.Session}
		if numberOf[host] == 0 {
			drones, sessions = append(drones, spawn.Drone), append(sessions, spawn.Session)
			numberOf[host] = int64(len(drones))
		}
		ids[i], given[i], hosts[i] = spawn.BackendID, spawn.IDGiven, numberOf[host]
		subdomains[i], statics[i] = spawn.Subdomain, spawn.StaticToken
		lifetimes[i], idles[i] = spawn.LifetimeSeconds, spawn.MaxIdleSeconds
		bodies[i], traces[i] = string(spawn.Body), spawn.Traceparent
	}
	return []any{
		ids, given, hosts, subdomains, statics, lifetimes, idles, bodies, traces, drones, sessions,
		s.terms.FreshWithin().Seconds(), s.terms.TTL.Seconds(),
	}
}

