package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/internal/lifecycle"
	"github.com/jetway-project/jetway/internal/outbox"
	"github.com/jetway-project/jetway/messages"
)

var (
	joinSQL  = statement("join")
	visitSQL = statement("visit")
	spawnSQL = statement("spawn")
)

// Connect settles a batch (lease.Store). Who holds a key is joined. Who has lost one that is wanted ends, by the
// rule by which every backend is lost; then such keys are acquired like any other that nobody holds.
//
// Either statement is right whichever comes first, for each leaves to the other what is not its own.
// What was all that the batch before needed is tried first; so joins and spawns take one statement each.
func (s *Store) Connect(ctx context.Context, wants []lease.Want) (got []lease.Got, rows []outbox.Row, err error) {
	c := &connecting{store: s, wants: wants, got: make([]lease.Got, len(wants)), unheld: make(map[int]bool)}
	if s.spawning.Load() {
		_ = c.spawn(ctx) // what failed is tried again below
	}
	err = c.join(ctx)
	s.spawning.Store(!slices.ContainsFunc(c.got, func(g lease.Got) bool { return g.Result == lease.Held }))
	if err == nil {
		err = c.lose(ctx)
	}
	if err == nil {
		err = c.spawn(ctx)
	}
	if err == nil && len(c.expired) > 0 {
		err = c.join(ctx) // those that a renewal saved
	}
	c.rows = append(c.rows, s.wakeJoined(ctx, c.asleep)...)
	settled := func(g lease.Got) bool { return g.Result != lease.Unsettled }
	if err != nil && len(c.rows) == 0 && !slices.ContainsFunc(c.got, settled) {
		return nil, nil, err
	}
	for i := range c.got {
		if c.got[i].Result == lease.Unsettled && c.unheld[i] {
			c.got[i].Result = lease.Unheld
			if c.unbelieved {
				c.got[i].Result = lease.Unknown
			}
		}
		if c.got[i].Result == lease.Unknown {
			c.got[i].ExpiresIn = s.home.left(s.clock.now(), s.clock.lives())
		}
	}
	// What is settled is: the others are left for another try, which will say what is wrong.
	return c.got, c.rows, nil
}

// connecting is one call of Connect.
type connecting struct {
	store *Store
	wants []lease.Want
	got   []lease.Got
	rows  []outbox.Row
	// expired are the backends that have lost keys, by the numbers of their wants.
	expired map[int]string
	// unheld are the numbers of the wants whose keys nobody held at the last look.
	unheld map[int]bool
	// asleep are the backends that are joined asleep.
	asleep []Change
	// unbelieved: then the database was not settled.
	unbelieved bool
}

// unsettled gives the wants that are not settled, with their numbers.
func (c *connecting) unsettled() (left []lease.Want, numbers []int) {
	for i := range c.wants {
		if c.got[i].Result == lease.Unsettled {
			left, numbers = append(left, c.wants[i]), append(numbers, i)
		}
	}
	return left, numbers
}

// join settles the wants whose keys are held. Who joins is active: of what is idle that is
// written first, and either a sweep that wants to end it sees that, or the second look sees that it
// was asked to end; so no link leads to such a one.
func (c *connecting) join(ctx context.Context) error {
	for range 2 {
		idle, err := c.joinOnce(ctx)
		if err != nil || len(idle) == 0 {
			return err
		}
		if _, err := c.store.pool.Exec(ctx, visitSQL, idle); err != nil {
			return wrap("join the idle", err)
		}
	}
	return nil // what has become idle meanwhile is left for another try
}

// joinOnce settles them but for those whose backends are idle, which it gives.
func (c *connecting) joinOnce(ctx context.Context) (idle []string, err error) {
	left, numbers := c.unsettled()
	if len(left) == 0 {
		return nil, nil
	}
	args := append(append(keysOf(left)[:2], tokensOf(left)...), c.store.clock.trusted())
	err = again(ctx, func() error {
		result, err := c.store.pool.Query(ctx, joinSQL, args...)
		if err != nil {
			return err
		}
		idle, c.expired, c.unbelieved = nil, make(map[int]string), false
		for _, i := range numbers {
			c.unheld[i] = true
		}
		var ix int64
		var isIdle, asleep, alive bool
		var expiresIn float64
		g := lease.Got{Result: lease.Held}
		_, err = pgx.ForEachRow(result, []any{
			&ix, &g.BackendID, &g.Tag, (*int16)(&g.Status), &g.Leaving, &isIdle, &asleep, &alive, &g.Cluster, &g.Subdomain, &g.Origin, &g.StaticToken, &expiresIn,
		}, func() error {
			if ix == 0 {
				c.unbelieved = true
				return nil
			}
			i := numbers[ix-1]
			c.unheld[i] = false
			if !alive {
				c.expired[i] = g.BackendID
				return nil
			}
			if isIdle && !g.Leaving {
				idle = append(idle, g.BackendID)
				return nil
			}
			if asleep && g.Tag == c.wants[i].Key.Tag {
				c.asleep = append(c.asleep, Change{BackendID: g.BackendID, Event: lifecycle.WakeAsked{}, Traceparent: c.wants[i].Traceparent})
			}
			g.ExpiresIn = time.Duration(expiresIn * float64(time.Second))
			c.got[i] = g
			return nil
		})
		if err != nil {
			clear(c.unheld) // who was not among the rows so far may have come yet
		}
		return err
	})
	return idle, wrap(fmt.Sprintf("join %d keys", len(left)), err)
}

// lose ends the backends that have lost their keys.
func (c *connecting) lose(ctx context.Context) error {
	if len(c.expired) == 0 {
		return nil
	}
	var lost []Change
	for _, id := range c.expired {
		lost = append(lost, Change{BackendID: id, Event: lifecycle.Lost{}})
	}
	rows, _, err := c.store.Transition(ctx, nil, lost)
	c.rows = append(c.rows, rows...)
	return err
}

// The results that spawnSQL gives.
const (
	rowSpawned = iota + 1
	rowIDTaken
	rowUnsettled
	rowResting
)

// spawn acquires, in one statement, the keys that nobody holds.
func (c *connecting) spawn(ctx context.Context) error {
	var left []lease.Want
	var numbers []int
	for i := range c.wants {
		if c.got[i].Result == lease.Unsettled && c.wants[i].Spawn != nil {
			left, numbers = append(left, c.wants[i]), append(numbers, i)
		}
	}
	if len(left) == 0 {
		return nil
	}
	args := c.store.spawnArgs(left)
	var result int
	var ix, token, droneTimeMS int64
	var at time.Time
	var words, static, label, resumes string
	var spawned []outbox.Row
	err := again(ctx, func() error {
		list, err := c.store.pool.Query(ctx, spawnSQL, args...)
		if err != nil {
			return err
		}
		spawned = nil
		_, err = pgx.ForEachRow(list, []any{&result, &ix, &token, &droneTimeMS, &at, &words, &static, &label, &resumes}, func() error {
			i, w := numbers[ix-1], &left[ix-1]
			switch result {
			case rowIDTaken:
				c.got[i].Result = lease.IDTaken
				return nil
			case rowUnsettled:
				c.got[i].Result = lease.Unknown
				return nil
			case rowResting:
				c.got[i] = lease.Got{Result: lease.Resting, Crashes: &messages.Crashes{InARow: int(token), RetryAfterMS: droneTimeMS, LastWords: words}}
				return nil
			}
			c.got[i] = lease.Got{
				Result: lease.Acquired, BackendID: w.Spawn.BackendID, Tag: w.Key.Tag, Status: messages.Scheduled, Cluster: w.Spawn.Cluster,
				Subdomain: label, Origin: w.Spawn.Origin, StaticToken: static, Resumes: resumes,
			}
			spawned = append(spawned, outbox.Row{
				Kind: outbox.KindSpawn, BackendID: w.Spawn.BackendID, Drone: w.Spawn.Drone, Status: messages.Scheduled,
				Spawn: &w.Spawn.Body.Spawn, StaticToken: static, Resumes: resumes, FencingToken: token, DroneTimeMS: droneTimeMS,
				Traceparent: w.Spawn.Traceparent, At: at,
			})
			return nil
		})
		return err
	})
	switch {
	case code(err) == codeUnique:
		// Another statement took a backend id that was free in the snapshot.
		return fmt.Errorf("spawn for %d keys: %w: %w", len(left), lease.ErrRaced, err)
	case err != nil:
		return wrap(fmt.Sprintf("spawn for %d keys", len(left)), err)
	}
	ended := make(map[string]bool)
	for i := range c.rows {
		ended[c.rows[i].BackendID] = ended[c.rows[i].BackendID] || c.rows[i].Status == messages.Terminated
	}
	for i, id := range c.expired {
		if c.got[i].Result == lease.Acquired && ended[id] {
			c.got[i].TookOver = id
		}
	}
	c.rows = append(c.rows, spawned...)
	return nil
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
	ixs, hashes, lives := make([]int64, 0, n), make([][]byte, 0, n), make([]int64, 0, n)
	tags, users, auths, secrets := texts[:0:n], texts[n:n:2*n], texts[2*n:2*n:3*n], texts[3*n:3*n:4*n]
	for i := range wants {
		for _, t := range wants[i].Tokens {
			ixs, hashes, tags = append(ixs, int64(i)+1), append(hashes, t.Hash), append(tags, t.Tag)
			users, auths, secrets = append(users, t.User), append(auths, string(t.Auth)), append(secrets, t.Secret)
			lives = append(lives, t.LifeSeconds)
		}
	}
	return []any{ixs, tags, hashes, users, auths, secrets, lives}
}

// spawnArgs are the parameters of spawnSQL.
func (s *Store) spawnArgs(wants []lease.Want) []any {
	n := len(wants)
	texts := make([]string, 9*n)
	ids, subdomains, statics, bodies, traces, runs, templates := texts[:n], texts[n:2*n], texts[2*n:3*n], texts[3*n:4*n], texts[4*n:5*n], texts[5*n:6*n], texts[6*n:7*n]
	kept, goesOn := texts[7*n:8*n], texts[8*n:]
	hashes := make([][]byte, n)
	given, origins, ignores, labels := make([]bool, n), make([]bool, n), make([]bool, n), make([]bool, n)
	numbers := make([]int64, 6*n)
	hosts, lifetimes, idles, revisions, sleeps, resumes := numbers[:n], numbers[n:2*n], numbers[2*n:3*n], numbers[3*n:4*n], numbers[4*n:5*n], numbers[5*n:]
	drones, sessions := []string{}, []string{}
	numberOf := make(map[[2]string]int64)
	for i := range wants {
		spawn := wants[i].Spawn
		host := [2]string{spawn.Drone, spawn.Session}
		if numberOf[host] == 0 {
			drones, sessions = append(drones, spawn.Drone), append(sessions, spawn.Session)
			numberOf[host] = int64(len(drones))
		}
		ids[i], given[i], hosts[i] = spawn.BackendID, spawn.IDGiven, numberOf[host]
		subdomains[i], origins[i], statics[i] = spawn.Subdomain, spawn.Origin, spawn.StaticToken
		hashes[i] = spawn.StaticHash
		runs[i] = messages.Runs(spawn.Body.Executable)
		if template := spawn.Body.Template; template != nil {
			templates[i], revisions[i] = template.Name, template.Revision
		}
		lifetimes[i], idles[i] = spawn.LifetimeSeconds, spawn.MaxIdleSeconds
		sleeps[i], ignores[i] = spawn.SleepAfterSeconds, spawn.SleepIgnoresIdle
		if spawn.Kept != nil {
			resumes[i], kept[i] = *spawn.Kept.ResumeSeconds, string(messages.Encode(spawn.Kept))
		}
		labels[i], goesOn[i] = spawn.AnyLabel, spawn.GoesOn
		bodies[i], traces[i] = string(messages.Encode(&spawn.Body)), spawn.Traceparent
	}
	args := append(keysOf(wants), ids, given, hosts, subdomains, statics, lifetimes, idles, bodies, traces)
	args = append(args, tokensOf(wants)...)
	return append(args, drones, sessions, s.Terms().FreshWithin().Seconds(), s.Terms().TTL.Seconds(), origins, runs, hashes, templates, revisions, sleeps, ignores,
		resumes, kept, labels, goesOn)
}
