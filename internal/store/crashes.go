package store

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/jetway-project/jetway/messages"
)

const forgiveSQL = `
update lease l set failures = 0, retry_at = null, last_words = ''
from (select namespace, name, failures from lease where namespace = $1 and name = $2 for no key update) b
where l.namespace = b.namespace and l.name = b.name
returning b.failures`

// Forgive forgets the failures of a key, and says how many there were; ok is false when nothing is known of the key.
func (s *Store) Forgive(ctx context.Context, key *messages.Key) (forgiven int, ok bool, err error) {
	err = again(ctx, func() error {
		list, err := read(ctx, s, pgx.RowTo[int], forgiveSQL, key.Namespace, key.Name)
		if ok = len(list) > 0; ok {
			forgiven = list[0]
		}
		return err
	})
	return forgiven, ok, wrap("forgive a key its failures", err)
}

const crashesSQL = `
select failures, last_words, ceil(greatest(extract(epoch from retry_at - now()), 0) * 1000)::int8
from lease
where namespace = $1 and name = $2 and failures > 0`

// addCrashes adds to what is known of a backend how often in a row its key's lives have failed.
func (s *Store) addCrashes(ctx context.Context, info *messages.BackendInfo) error {
	list, err := read(ctx, s, func(row pgx.CollectableRow) (c messages.Crashes, err error) {
		var rest *int64
		if err = row.Scan(&c.InARow, &c.LastWords, &rest); rest != nil {
			c.RetryAfterMS = *rest
		}
		return c, err
	}, crashesSQL, info.Key.Namespace, info.Key.Name)
	if len(list) > 0 {
		info.Crashes = &list[0]
	}
	return wrap("read the failures of a key", err)
}
