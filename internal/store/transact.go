package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// transact runs one transaction in two round trips: read locks and reads, write decides on
// that and writes. All lock in one order, so that no two wait for each other: sessions, keys,
// backends, each by their names. An error of write undoes all.
func (s *Store) transact(ctx context.Context, read func(*pgx.Batch), write func(context.Context, *pgx.Conn, *pgx.Batch) error) error {
	return s.pool.AcquireFunc(ctx, func(c *pgxpool.Conn) (err error) {
		defer func() {
			if err != nil && !c.Conn().IsClosed() {
				undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
				defer cancel()
				// A connection that fails here is not used again: it is in a transaction.
				_, _ = c.Exec(undo, "rollback")
			}
		}()
		b := &pgx.Batch{}
		b.Queue("begin")
		read(b)
		if err := c.SendBatch(ctx, b).Close(); err != nil {
			return err
		}
		b = &pgx.Batch{}
		if err := write(ctx, c.Conn(), b); err != nil {
			return err
		}
		b.Queue("commit")
		return c.SendBatch(ctx, b).Close()
	})
}
