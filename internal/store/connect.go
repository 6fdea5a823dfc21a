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
