package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Ceiling measures what Postgres takes at most: the rows of a spawn, written by
// one bare multi-row statement with no look-up, no check and no conflict. It
// works in a schema of its own, which [Ceiling.Close] drops.
type Ceiling struct {
	s      *Store
	schema string
	insert string
}

// NewCeiling makes the tables, like the real ones with all their indexes.
func (s *Store) NewCeiling(ctx context.Context) (*Ceiling, error) {
	c := &Ceiling{s: s, schema: fmt.Sprintf("jetway_ceiling_%d", time.Now().UnixNano())}
	name := pgx.Identifier{c.schema}.Sanitize()
	var ddl strings.Builder
	ddl.WriteString("create schema " + name)
	for _, table := range []string{"lease", "backend", "token", "outbox"} {
		ddl.WriteString(fmt.Sprintf("; create table %s.%s (like %s including all)", name, table, table))
	}
	if _, err := s.pool.Exec(ctx, ddl.String()); err != nil {
		return nil, wrap("make the ceiling's tables", err)
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

// Write writes the rows of n spawns.
func (c *Ceiling) Write(ctx context.Context, n int) error {
	_, err := c.s.pool.Exec(ctx, c.insert, n)
	return wrap("write the ceiling's rows", err)
}

// Close drops the tables.
func (c *Ceiling) Close(ctx context.Context) error {
	_, err := c.s.pool.Exec(ctx, "drop schema "+pgx.Identifier{c.schema}.Sanitize()+" cascade")
	return wrap("drop the ceiling's tables", err)
}
