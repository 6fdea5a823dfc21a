package store

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/internal/outbox"
	"github.com/jetway-project/jetway/messages"
)

// revokeSQL deletes tokens and writes the event that says so, in one transaction. The event
// is written also when there was nothing to delete: what was opened with a token that has
// run out since is open still, and is to be cut.
const revokeSQL = `
with gone as (
    delete from token t
    where t.backend_id = $1 and ($2::text is null or t.username = $2) and ($3::bytea is null or t.hash = $3)
      and t.expires_at < 'infinity' -- none is static
    returning t.hash
),
published as (
    insert into outbox (id, kind, backend_id, drone, body, traceparent)
    select n.id, 'token', $1, '', json_strip_nulls(json_build_object('type', $4::text, 'id', $1 || '.revoked.' || n.id,
           'backend_id', $1, 'user', $2, 'token_sha256', encode($3, 'hex')))::text, $5
    from (select nextval('outbox_id') as id where exists (select from backend b where b.id = $1 and b.status < 70 and b.static_token = '' and b.sealed_token = '')) n
    returning id, body, created_at
)
select (select count(*) from gone)::int4, b.static_token <> '' or b.sealed_token <> '', coalesce(p.id, 0), coalesce(p.body, ''), coalesce(p.created_at, now())
from backend b left join published p on true
where b.id = $1`

// Revoke deletes connection tokens. It gives how many there were and the event to
// publish, if the backend has not ended. ok is false when there is no such backend.
func (s *Store) Revoke(ctx context.Context, r *messages.RevokeRequest) (revoked int, rows []outbox.Row, ok bool, err error) {
	var hash []byte
	if r.Token != "" {
		hash = lease.HashToken(r.Token)
	}
	static := false
	event := outbox.Row{Kind: outbox.KindToken, BackendID: r.BackendID, Traceparent: traceOf(ctx)}
	found, err := read(ctx, s, func(row pgx.CollectableRow) (n int, err error) {
		var body string
		err = row.Scan(&n, &static, &event.ID, &body, &event.At)
		event.Body = []byte(body)
		return n, err
	}, revokeSQL, r.BackendID, r.User, hash, messages.TypeTokenRevoked, event.Traceparent)
	if err != nil || len(found) == 0 {
		return 0, nil, false, wrap("revoke tokens", err)
	}
	if static {
		return 0, nil, true, messages.Errorf(messages.BadRequest, "backend_id: %q has a static token, which all its users share and which lives as long as it does: terminate it instead", r.BackendID)
	}
	if event.ID != 0 {
		rows = append(rows, event)
	}
	return found[0], rows, true, nil
}
