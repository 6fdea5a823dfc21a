package store_test

import (
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/messages"
)

// I7: while the database's disk is full, or it has no memory, requests are told that they cannot be settled now, and why,
// instead of Internal; nothing is left behind, and it goes on when there is room.
func TestI7FullDiskOfTheDatabaseIsSaid(t *testing.T) {
	t.Parallel()
	d := newRunningDB(t)
	d.drone("dr-a")
	// What Postgres says when it cannot extend a table.
	d.exec(`create function full_disk() returns trigger language plpgsql as $$ begin
		raise exception 'could not extend file "base/1/2": No space left on device' using errcode = 'disk_full'; end $$`)
	d.exec(`create trigger full_disk before insert on outbox for each row execute function full_disk()`)
	_, _, err := d.Connect(t.Context(), []lease.Want{want("k", "b-1", "dr-a")})
	if messages.KindOf(err) != messages.Unavailable || !strings.Contains(err.Error(), "the database's disk is full") {
		t.Errorf("spawn: %v", err)
	}
	d.exec(`drop trigger full_disk on outbox`)
	if n := one[int](d, `select count(*) from backend`); n != 0 {
		t.Errorf("%d backends are left behind", n)
	}
	d.spawn("k", "b-1", "dr-a")
}
