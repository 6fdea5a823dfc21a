package store_test

import (
	"sync"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/lease"
)

// lifeLeft is for how much of its life a token still lives.
func (d *db) lifeLeft(token string) float64 {
	return one[float64](d, `select (extract(epoch from expires_at - now()) / lifetime_seconds)::float8 from token where hash = $1`, lease.HashToken(token))
}

// age sets what is left of a token's life.
func (d *db) age(token string, left float64) {
	d.exec(`update token set expires_at = now() + make_interval(secs => lifetime_seconds) * $2::float8 where hash = $1`, lease.HashToken(token), left)
}

// The demand: a token lives as long as it is used. Each use lets it live for its own life again, but no more often than once in a
// quarter of that: all others write nothing.
func TestTokenThatIsUsedLivesOn(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	hour, day := want("k", "b-1", "dr-a"), want("l", "b-2", "dr-a")
	day.Tokens[0].LifeSeconds = 24 * 3600
	d.connect(hour)
	d.connect(day)
	for id, life := range map[string]time.Duration{"b-1": time.Hour, "b-2": 24 * time.Hour} {
		token := "token-of-" + id
		use := func() time.Duration {
			t.Helper()
			routes, err := d.Routes(t.Context(), []string{"s.none", token, "none"})
			if err != nil || routes[1] == nil || routes[0] != nil || routes[2] != nil {
				t.Fatalf("routes %v, %v", routes, err)
			}
			return time.Duration(routes[1].ValidForMS) * time.Millisecond
		}
		row := func() string {
			return one[string](d, `select ctid::text || xmin::text from token where hash = $1`, lease.HashToken(token))
		}
		if valid := use(); valid > life || valid < life/10*9 {
			t.Errorf("%s: a new token lives %v, want %v", id, valid, life)
		}
		d.age(token, 0.8)
		before := row()
		if valid := use(); valid > life/10*8 || row() != before {
			t.Errorf("%s: used in its first quarter a token lives for %v, written: %v", id, valid, row() != before)
		}
		d.age(token, 0.7)
		if valid := use(); valid > life || valid < life/10*9 || d.lifeLeft(token) < 0.9 {
			t.Errorf("%s: used after that it lives for %v, want %v", id, valid, life)
		}
		// However many use it at once, it is written once.
		d.exec(`create table if not exists writes (hash bytea)`)
		d.exec(`create or replace function count_write() returns trigger language plpgsql as 'begin insert into writes values (new.hash); return new; end'`)
		d.exec(`create or replace trigger count_writes after update on token for each row execute function count_write()`)
		d.age(token, 0.1)
		d.exec(`truncate writes`)
		var all sync.WaitGroup
		for range 6 {
			all.Go(func() { _, _ = d.Routes(t.Context(), []string{token}) })
		}
		all.Wait()
		if n := one[int](d, `select count(*) from writes where hash = $1`, lease.HashToken(token)); n != 1 || d.lifeLeft(token) < 0.9 {
			t.Errorf("%s: used by 6 at once it was written %d times and has %v of its life left", id, n, d.lifeLeft(token))
		}
		d.age(token, -0.1)
		if routes, err := d.Routes(t.Context(), []string{token}); err != nil || routes[0] != nil || d.lifeLeft(token) > 0 {
			t.Errorf("%s: a token that has run out leads to %v, %v", id, routes[0], err)
		}
	}
}
