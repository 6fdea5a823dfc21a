package store

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/messages"
)

// A key that is to outlive its backends says so in its row (resume_seconds). The row's release sets until when it is dormant, and the next
// acquisition ends that: so it is resumed once, whoever asks, and by as many workers at once as may be (spawn.sql). What it is started
// with lies beside it, in the table dormant, and counts only while the row names the same last holder. So a forgotten key, or one that was
// acquired since for something else, is never started by what was kept before.

var dormantSQL = statement("dormant")

// Dormant gives what keys are started with that are dormant, nil for the others (lease.Store).
func (s *Store) Dormant(ctx context.Context, keys []messages.Key) ([]*lease.Dormant, error) {
	namespaces, names := make([]string, len(keys)), make([]string, len(keys))
	for i := range keys {
		namespaces[i], names[i] = keys[i].Namespace, keys[i].Name
	}
	var found []*lease.Dormant
	err := again(ctx, func() error {
		rows, err := s.pool.Query(ctx, dormantSQL, namespaces, names)
		if err != nil {
			return err
		}
		found = make([]*lease.Dormant, len(keys))
		var ix int64
		var backend, tag, config string
		_, err = pgx.ForEachRow(rows, []any{&ix, &backend, &tag, &config}, func() error {
			d := &lease.Dormant{Tag: tag, BackendID: backend, Config: new(messages.SpawnConfig)}
			if err := json.Unmarshal([]byte(config), d.Config); err != nil {
				return fmt.Errorf("read what was kept of key %q: %w", names[ix-1], err)
			}
			found[ix-1] = d
			return nil
		})
		return err
	})
	return found, wrap("read dormant keys", err)
}

const lastHolderSQL = `select l.backend_id from lease l where l.namespace = $1 and l.name = $2`

// LastHolder gives the backend that holds a key, or held it last, which may be forgotten; "" for none.
func (s *Store) LastHolder(ctx context.Context, key *messages.Key) (string, error) {
	list, err := read(ctx, s, pgx.RowTo[string], lastHolderSQL, key.Namespace, key.Name)
	if err != nil || len(list) == 0 {
		return "", wrap("read who holds a key", err)
	}
	return list[0], nil
}

const forgetDormantSQL = `
with forgotten as (
    update lease l set resume_seconds = null, dormant_until = null
    where l.namespace = $1 and l.name = $2 and l.backend_id = $3 and l.released_at is not null
    returning l.namespace, l.name, l.backend_id
)
delete from dormant d
using forgotten f
where d.namespace = f.namespace and d.name = f.name and d.backend_id = f.backend_id`

// ForgetDormant forgets what was kept of a key whose last holder is not known any more.
func (s *Store) ForgetDormant(ctx context.Context, key *messages.Key, backend string) error {
	err := again(ctx, func() error {
		_, err := s.pool.Exec(ctx, forgetDormantSQL, key.Namespace, key.Name, backend)
		return err
	})
	return wrap("forget a dormant key", err)
}
