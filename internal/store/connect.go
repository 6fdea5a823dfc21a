package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/internal/lifecycle"
	"github.com/jetway-project/jetway/internal/outbox"
	"github.com/jetway-project/jetway/messages"
)

var connectSQL = statement("connect")

// tokenLifetime is how long a dynamic token leads anywhere (design, section 3).
const tokenLifetime = time.Hour

// Connect settles a batch (lease.Store). Who has lost a key that is wanted ends first, by the
// rule by which every backend is lost; then the key is acquired like any other that nobody holds.
func (s *Store) Connect(ctx context.Context, wants []lease.Want) ([]lease.Got, []outbox.Row, error) {
	a, err := s.connect(ctx, wants)
	if err != nil || len(a.expired) == 0 {
		return a.got, a.rows(), err
	}
	rows, err := s.takeOver(ctx, wants, a)
	if err != nil && len(a.expired) == len(wants) {
		return nil, nil, err
	}
	// What is settled is: the others are left for another try, which will say what is wrong.
	return a.got, append(a.rows(), rows...), nil
}

// takeOver settles the wants of which a has found that the key's holder has lost it.
func (s *Store) takeOver(ctx context.Context, wants []lease.Want, a *connectAnswer) ([]outbox.Row, error) {
	var left []lease.Want
	var lost []Change
	for _, e := range a.expired {
		left, lost = append(left, wants[e.ix-1]), append(lost, Change{BackendID: e.backendID, Event: lifecycle.Lost{}})
	}
	rows, _, err := s.Transition(ctx, nil, lost)
	if err != nil {
		return nil, err
	}
	taken, err := s.connect(ctx, left)
	if err != nil {
		return rows, nil //nolint:nilerr // the losses are committed, and the next try says what is wrong
	}
	ended := make(map[string]bool)
	for i := range rows {
		ended[rows[i].BackendID] = ended[rows[i].BackendID] || rows[i].Status == messages.Terminated
	}
	for n, e := range a.expired {
		i := e.ix - 1
		if a.got[i] = taken.got[n]; a.got[i].Result == lease.Acquired && ended[e.backendID] {
			a.got[i].TookOver = e.backendID
		}
	}
	return append(rows, taken.rows()...), nil
}

// connect settles a batch in one statement.
func (s *Store) connect(ctx context.Context, wants []lease.Want) (*connectAnswer, error) {
	args := s.connectArgs(wants)
	var answer *connectAnswer
	err := again(ctx, func() error {
		result, err := s.pool.Query(ctx, connectSQL, args...)
		if err != nil {
			return err
		}
		answer = &connectAnswer{wants: wants, got: make([]lease.Got, len(wants))}
		_, err = pgx.ForEachRow(result, answer.row.fields(), answer.add)
		return err
	})
	switch {
	case err == nil:
		return answer, nil
	case code(err) == codeUnique:
		// Another statement took a backend id that was free in the snapshot.
		return &connectAnswer{}, fmt.Errorf("connect %d keys: %w: %w", len(wants), lease.ErrRaced, err)
	}
	return &connectAnswer{}, wrap(fmt.Sprintf("connect %d keys", len(wants)), err)
}

// The kinds of rows that connectSQL gives.
const (
	rowHeld = iota + 1
	rowSpawned
	rowExpired
	rowIDTaken
	rowUnsettled
)

// connectRow is one row of what it gives.
type connectRow struct {
	kind                            int
	ix                              int64
	backendID, tag                  string
	status                          messages.Status
	leaving                         bool
	cluster, subdomain, staticToken string
	origin                          bool
	fencingToken                    int64
	expiresIn                       float64
	droneTimeMS                     int64
	at                              time.Time
}

func (r *connectRow) fields() []any {
	return []any{
		&r.kind, &r.ix, &r.backendID, &r.tag, (*int16)(&r.status), &r.leaving, &r.cluster, &r.subdomain, &r.origin, &r.staticToken,
		&r.fencingToken, &r.expiresIn, &r.droneTimeMS, &r.at,
	}
}

// connectAnswer puts the rows together.
type connectAnswer struct {
	wants            []lease.Want
	row              connectRow
	got              []lease.Got
	spawned, expired []connectRow
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
			Leaving:   r.leaving,
			Subdomain: r.subdomain, Origin: r.origin, StaticToken: r.staticToken,
			ExpiresIn: time.Duration(r.expiresIn * float64(time.Second)),
		}
	case rowExpired:
		a.expired = append(a.expired, r)
	case rowIDTaken:
		a.got[r.ix-1].Result = lease.IDTaken
	case rowUnsettled:
		a.got[r.ix-1].Result = lease.Unknown
	}
	return nil
}

// rows are the actions to publish.
func (a *connectAnswer) rows() (rows []outbox.Row) {
	for i := range a.spawned {
		r := &a.spawned[i]
		spawn := a.wants[r.ix-1].Spawn
		rows = append(rows, outbox.Row{
			Kind: outbox.KindSpawn, BackendID: r.backendID, Drone: spawn.Drone, Status: messages.Scheduled,
			Spawn: &spawn.Message, Body: spawn.Body, FencingToken: r.fencingToken, DroneTimeMS: r.droneTimeMS,
			Traceparent: spawn.Traceparent, At: r.at,
		})
	}
	return rows
}

// keysOf are the arrays of keys that statements begin with.
func keysOf(wants []lease.Want) []any {
	n := len(wants)
	texts := make([]string, 3*n)
	namespaces, names, tags := texts[:n], texts[n:2*n], texts[2*n:]
	for i := range wants {
		namespaces[i], names[i], tags[i] = wants[i].Key.Namespace, wants[i].Key.Name, wants[i].Key.Tag
	}
	return []any{namespaces, names, tags}
}

// tokensOf are the arrays of tokens, each with the number of its want.
func tokensOf(wants []lease.Want) []any {
	n := 0
	for i := range wants {
		n += len(wants[i].Tokens)
	}
	texts := make([]string, 0, 4*n)
	ixs, hashes := make([]int64, 0, n), make([][]byte, 0, n)
	tags, users, auths, secrets := texts[:0:n], texts[n:n:2*n], texts[2*n:2*n:3*n], texts[3*n:3*n:4*n]
	for i := range wants {
		for _, t := range wants[i].Tokens {
			ixs, hashes, tags = append(ixs, int64(i)+1), append(hashes, t.Hash), append(tags, t.Tag)
			users, auths, secrets = append(users, t.User), append(auths, string(t.Auth)), append(secrets, t.Secret)
		}
	}
	return []any{ixs, tags, hashes, users, auths, secrets}
}

// connectArgs are the parameters of connectSQL.
func (s *Store) connectArgs(wants []lease.Want) []any {
	n := len(wants)
	texts := make([]string, 5*n)
	ids, subdomains, statics, bodies, traces := texts[:n], texts[n:2*n], texts[2*n:3*n], texts[3*n:4*n], texts[4*n:]
	given, origins := make([]bool, n), make([]bool, n)
	numbers := make([]int64, 3*n)
	hosts, lifetimes, idles := numbers[:n], numbers[n:2*n], numbers[2*n:]
	drones, sessions := []string{}, []string{}
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
		subdomains[i], origins[i], statics[i] = spawn.Subdomain, spawn.Origin, spawn.StaticToken
		lifetimes[i], idles[i] = spawn.LifetimeSeconds, spawn.MaxIdleSeconds
		bodies[i], traces[i] = string(spawn.Body), spawn.Traceparent
	}
	args := append(keysOf(wants), ids, given, hosts, subdomains, statics, lifetimes, idles, bodies, traces)
	args = append(args, tokensOf(wants)...)
	return append(args, tokenLifetime.Seconds(), drones, sessions, s.Terms().FreshWithin().Seconds(), s.Terms().TTL.Seconds(), s.clock.trusted(), origins)
}
