package store

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/jetway-project/jetway/internal/lease"
)

// openTokensSQL walks an index that has nothing in it once all are sealed.
const openTokensSQL = `select b.id, b.static_token from backend b where b.static_token <> '' order by b.static_token limit $1`

// sealTokensSQL seals those that nobody else has in hand.
const sealTokensSQL = `
with free as materialized (
    select b.id from backend b where b.id = any($1::text[]) order by b.id collate "C" for no key update skip locked
),
sealed as (
    update backend b
    set sealed_token = w.stored, static_token = ''
    from unnest($1::text[], $2::text[], $3::text[], $4::bytea[]) as w (id, token, stored, hash)
    where b.id = any(array(select f.id from free f)) and b.id = w.id and b.static_token = w.token
    returning b.id, w.hash
)
insert into token (hash, backend_id, username, auth, secret, expires_at, lifetime_seconds)
select hash, id, '', '', '', 'infinity', 0 from sealed`

// OpenToken is a static token that is stored as it is, and what is to be stored of it instead.
type OpenToken struct{ BackendID, Token, Stored string }

// OpenTokens gives some of the static tokens that are stored as they are.
func (s *Store) OpenTokens(ctx context.Context) ([]OpenToken, error) {
	tokens, err := read(ctx, s, func(row pgx.CollectableRow) (t OpenToken, err error) {
		return t, row.Scan(&t.BackendID, &t.Token)
	}, openTokensSQL, retainBatch)
	return tokens, wrap("look for static tokens that are not sealed", err)
}

// SealTokens stores what they are sealed as, and gives of how many.
func (s *Store) SealTokens(ctx context.Context, tokens []OpenToken) (sealed int64, err error) {
	ids, opened, stored, hashes := make([]string, len(tokens)), make([]string, len(tokens)), make([]string, len(tokens)), make([][]byte, len(tokens))
	for i, t := range tokens {
		ids[i], opened[i], stored[i], hashes[i] = t.BackendID, t.Token, t.Stored, lease.HashToken(t.Token)
	}
	err = again(ctx, func() error {
		tag, err := s.pool.Exec(ctx, sealTokensSQL, ids, opened, stored, hashes)
		sealed = tag.RowsAffected()
		return err
	})
	return sealed, wrap("seal static tokens", err)
}
