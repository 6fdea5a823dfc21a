package store

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"

	"github.com/jackc/pgx/v5"

	"github.com/jetway-project/jetway/internal/lifecycle"
	"github.com/jetway-project/jetway/internal/outbox"
	"github.com/jetway-project/jetway/internal/placement"
	"github.com/jetway-project/jetway/messages"
)

var (
	chanceSQL    = statement("chance")
	placeableSQL = statement("placeable")
	placeSQL     = statement("place")
	refusedSQL   = statement("refused")
)

const (
	// choices is how many drones are compared for the least loaded.
	choices = 2
	// placings bounds how often another drone is picked because one no longer qualifies.
	placings = 3
)

// chance is what is known of placing a backend again.
type chance struct {
	lifecycle.Chance
	body outbox.SpawnBody
}

func (t *transition) scanChances(rows pgx.Rows) error {
	var id, body string
	var age int64
	_, err := pgx.ForEachRow(rows, []any{&id, &body, &age}, func() error {
		c := new(chance)
		if err := json.Unmarshal([]byte(body), &c.body); err != nil {
			return fmt.Errorf("read the spawn of %s: %w", id, err)
		}
		c.InTime = age < c.body.PlaceWithinMS
		t.chances[id] = c
		return nil
	})
	return err
}

// withChance gives the event with what was found out about its backend.
func (l *locked) withChance(e lifecycle.Event) lifecycle.Event {
	if l.chance == nil {
		return e
	}
	switch e := e.(type) {
	case lifecycle.Refused:
		e.Chance = l.chance.Chance
		return e
	case lifecycle.Forgotten:
		e.Chance = l.chance.Chance
		return e
	}
	return e
}

// place places those that their drones have not taken, and may go to another one: whose
// first event says so, whose request still waits, and whose key is theirs and not sealed. Room is
// where one was placed.
func (t *transition) place(ctx context.Context, c *pgx.Conn) error {
	var left []*locked
	seen := make(map[string]bool, len(t.changes))
	for _, change := range t.changes {
		l, first := t.backends[change.BackendID], !seen[change.BackendID]
		seen[change.BackendID] = true
		_, refused := change.Event.(lifecycle.Refused)
		_, forgotten := change.Event.(lifecycle.Forgotten)
		if !first || !refused && !forgotten || change.Of != nil && *change.Of != l.of {
			continue
		}
		if l.chance = t.chances[l.id]; l.chance == nil {
			continue
		}
		key, holds := t.keys[l.id]
		l.chance.Held = holds && !key.sealed
		if l.chance.InTime && l.chance.Held && l.Status == messages.Scheduled && l.Asked == lifecycle.NotAsked {
			l.chance.body.RefusedBy = append(l.chance.body.RefusedBy, l.of.Drone)
			left = append(left, l)
		}
	}
	if len(left) == 0 {
		return nil
	}
	fresh := t.store.Terms().FreshWithin().Seconds()
	found, err := c.Query(ctx, placeableSQL, fresh)
	if err != nil {
		return err
	}
	drones, err := pgx.CollectRows(found, scanPlaceable)
	if err != nil {
		return err
	}
	snapshot := placement.NewSnapshot(drones, nil)
	tried := make(map[string][]string) // by backend: drones that do not qualify any more
	for range placings {
		if left, err = t.placeOn(ctx, c, snapshot, left, tried, fresh); err != nil || len(left) == 0 {
			return err
		}
	}
	return nil
}

// placeOn places backends on drones that it picks, and gives those whose drones no
// longer qualify.
func (t *transition) placeOn(ctx context.Context, c *pgx.Conn, snapshot *placement.Snapshot, backends []*locked, tried map[string][]string, fresh float64) (left []*locked, err error) {
	var ids, names, sessions, bodies []string
	picked := make(map[string]*locked)
	for _, l := range backends {
		body := &l.chance.body
		drone, ok := snapshot.Pick(placement.Want{Cluster: l.cluster, Pool: l.pool, Template: body.Template.NameOf()}, choices, rand.IntN, append(tried[l.id], body.RefusedBy...)...)
		if !ok {
			continue
		}
		tried[l.id] = append(tried[l.id], drone.Name)
		body.Session = drone.Session
		picked[l.id] = l
		ids, names, sessions = append(ids, l.id), append(names, drone.Name), append(sessions, drone.Session)
		bodies = append(bodies, string(messages.Encode(body)))
	}
	if len(ids) == 0 {
		return nil, nil
	}
	found, err := c.Query(ctx, placeSQL, ids, names, sessions, bodies, fresh)
	if err != nil {
		return nil, err
	}
	placed, err := pgx.CollectRows(found, scanOutbox)
	if err != nil {
		return nil, err
	}
	for i := range placed {
		picked[placed[i].BackendID].chance.Room = true
		delete(picked, placed[i].BackendID)
	}
	t.placed = append(t.placed, placed...)
	for _, l := range picked {
		left = append(left, l)
	}
	return left, nil
}

func scanPlaceable(row pgx.CollectableRow) (d placement.Drone, err error) {
	var spares []messages.SpareState
	err = row.Scan(&d.Name, &d.Session, &d.Cluster, &d.Pool, &d.MaxBackends, &d.MaxMemoryBytes, &d.MaxCPUMillis,
		&d.MemoryBytes, &d.CPUMillis, &d.Refused, &d.Backends, &d.SaidAt, &spares)
	for _, s := range spares {
		if s.Ready > 0 {
			if d.Spares == nil {
				d.Spares = make(map[string]int)
			}
			d.Spares[s.Template] = s.Ready
		}
	}
	return d, err
}

// PlaceableDrones are those that may be given a backend now, unless they are full (lease.Store).
func (s *Store) PlaceableDrones(ctx context.Context) ([]placement.Drone, error) {
	drones, err := read(ctx, s, scanPlaceable, placeableSQL, s.Terms().FreshWithin().Seconds())
	return drones, wrap("read the drones", err)
}
