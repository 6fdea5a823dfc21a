package store_test

import (
	"context"
	"testing"

	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/internal/outbox"
	"github.com/jetway-project/jetway/messages"
)

// Two workers that claim at the same moment: the one that is a row behind must not
// take the later states of a backend and publish them before the other's.
func TestI5RowsOfABackendAreClaimedByOneWorkerOrNone(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	d.exec(`delete from outbox`)
	for _, id := range []string{"b-1", "b-2"} {
		got, _ := d.connect(want(id, id, "dr-a"))
		if got[0].Result != lease.Acquired {
			t.Fatalf("connect: %+v", got[0])
		}
		d.transition(reported(id, messages.Loading), reported(id, messages.Starting))
	}
	d.exec(`update outbox set due_at = now() - interval '1 second'`)

	tx, err := d.raw.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	// The other worker has come as far as the first row.
	_, err = tx.Exec(t.Context(), `select from outbox where id = (select min(id) from outbox where backend_id = 'b-1') for update`)
	if err != nil {
		t.Fatal(err)
	}
	claimed := func(all bool) map[string][]messages.Status {
		rows, err := d.ClaimOutbox(t.Context(), all, 100)
		if err != nil {
			t.Fatal(err)
		}
		found := make(map[string][]messages.Status)
		for _, r := range rows {
			if r.Kind == outbox.KindState {
				found[r.BackendID] = append(found[r.BackendID], r.Status)
			}
		}
		return found
	}
	if got := claimed(false); len(got["b-1"]) != 0 || len(got["b-2"]) != 2 {
		t.Errorf("beside another worker that claims b-1, claimed %v, want both rows of b-2", got)
	}
	if got := claimed(false); len(got) != 0 {
		t.Errorf("claimed twice: %v", got)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := claimed(false); len(got["b-1"]) != 2 || len(got) != 1 {
		t.Errorf("when the other has gone, claimed %v, want both rows of b-1", got)
	}
}
