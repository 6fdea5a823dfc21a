package bench

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// rowCeiling measures what Postgres takes at most: the rows of a spawn, written by
// one bare multi-row statement with no look-up, no check and no conflict. It
// works in a schema of its own, which close drops.
type rowCeiling struct {
	pool   *pgxpool.Pool
	schema string
	insert string
}

// newRowCeiling makes the tables, like the real ones with all their indexes.
func newRowCeiling(ctx context.Context, dsn string) (*rowCeiling, error) {
	pool, err := pgxpool.New(ctx, dsn)
	if err != nil {
		return nil, fmt.Errorf("open the Postgres pool: %w", err)
	}
	c := &rowCeiling{pool: pool, schema: fmt.Sprintf("jetway_ceiling_%d", time.Now().UnixNano())}
	name := pgx.Identifier{c.schema}.Sanitize()
	var ddl strings.Builder
	ddl.WriteString("create schema " + name)
	for _, table := range []string{"lease", "backend", "token", "outbox"} {
		ddl.WriteString(fmt.Sprintf("; create table %s.%s (like %s including all)", name, table, table))
	}
	if _, err := pool.Exec(ctx, ddl.String()); err != nil {
		pool.Close()
		return nil, fmt.Errorf("make the ceiling's tables: %w", err)
	}
	c.insert = fmt.Sprintf(`
with n as materialized (
    select 'key-' || nextval('outbox_id') as key, substr(md5(random()::text), 1, 14) as id, nextval('outbox_id') as a
    from generate_series(1, $1)
), l as (
    insert into %[1]s.lease (namespace, name, tag, backend_id, fencing_token)
    select '', key, '', id, nextval('fencing_token') from n
), b as (
    insert into %[1]s.backend (id, namespace, name, tag, cluster, pool, drone, session, fencing_token, status)
    select id, '', key, '', 'localhost:9090', '', 'dr-bench', 'session', 1, 10 from n
), t as (
    insert into %[1]s.token (hash, backend_id, username, auth, secret, expires_at)
    select sha256(id::bytea), id, '', '{}', repeat('x', 43), now() + interval '1 hour' from n
)
insert into %[1]s.outbox (id, kind, backend_id, drone, status, until_status, body)
select a, 'spawn', id, 'dr-bench', 10, 20, repeat('x', 150) from n`, name)
	return c, nil
}

// write writes the rows of n spawns.
func (c *rowCeiling) write(ctx context.Context, n int) error {
	_, err := c.pool.Exec(ctx, c.insert, n)
	return err
}

// close drops the tables.
func (c *rowCeiling) close(ctx context.Context) error {
	defer c.pool.Close()
	if _, err := c.pool.Exec(ctx, "drop schema "+pgx.Identifier{c.schema}.Sanitize()+" cascade"); err != nil {
		return fmt.Errorf("drop the ceiling's tables: %w", err)
	}
	return nil
}
