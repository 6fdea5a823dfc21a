package store_test

import (
	"fmt"
	"testing"

	"github.com/jetway-project/jetway/internal/lifecycle"
	"github.com/jetway-project/jetway/internal/outbox"
	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/messages"
)

// dump keeps tables as they are, and restore has them be so again, and the sequences too: as after an older dump
// is restored, or a replica promoted that lost the last commits.
func (d *db) dump() (restore func()) {
	d.t.Helper()
	tables := []string{"lease", "backend", "token", "drone", "session", "outbox", "connection", "proxy"}
	for _, table := range tables {
		d.exec(`create table dump_` + table + ` as table ` + table)
	}
	type place struct {
		last   int64
		called bool
	}
	sequences := make(map[string]place)
	for _, name := range []string{"fencing_token", "outbox_id"} {
		sequences[name] = place{one[int64](d, `select last_value from `+name), one[bool](d, `select is_called from `+name)}
	}
	return func() {
		d.t.Helper()
		for _, table := range tables {
			d.exec(`delete from ` + table)
			d.exec(`insert into ` + table + ` table dump_` + table)
		}
		for name, p := range sequences {
			d.exec(`select setval($1::text::regclass, $2, $3)`, name, p.last, p.called)
		}
	}
}

// I2: fencing tokens of a key go on rising after an older dump is restored, and after a failover that lost commits:
// whether the key was on record then, or is new to what is left.
// Found by restoring a dump: …663, and then …659 once more.
func TestI2FencingTokensRiseOverARestoreAndAFailover(t *testing.T) {
	t.Parallel()
	for _, known := range []bool{true, false} {
		t.Run(fmt.Sprint("the key is on record: ", known), func(t *testing.T) {
			t.Parallel()
			d := newRunningDB(t)
			d.drone("dr-a")
			n := 0
			life := func() int64 {
				n++
				id := fmt.Sprintf("b-%d", n)
				token := d.spawn("k", id, "dr-a")
				d.transition(ends(id, messages.Soft, messages.ReasonExternal))
				return token
			}
			if known {
				life()
			}
			restore := d.dump()
			var last int64
			for range 5 {
				last = life()
			}
			restore()
			d.renew("dr-a", session)
			for range 3 {
				token := life()
				if token <= last {
					t.Fatalf("after %d, and a restore, the token %d", last, token)
				}
				last = token
			}
		})
	}
}

// I2: the clock steps back: tokens go on rising, also while the sequence is back where it began.
func TestI2FencingTokensRiseOverAClockThatStepsBack(t *testing.T) {
	t.Parallel()
	d := newRunningDB(t)
	d.drone("dr-a")
	d.spawn("k", "b-0", "dr-a")
	d.transition(ends("b-0", messages.Soft, messages.ReasonExternal))
	// What was given before the step.
	d.exec(`update lease set fencing_token = fencing_token + 3600 * 1000`)
	last := one[int64](d, `select fencing_token from lease`)
	for i := range 3 {
		d.exec(`select setval('fencing_token', 1)`)
		id := fmt.Sprintf("b-%d", i+1)
		token := d.spawn("k", id, "dr-a")
		if token <= last {
			t.Fatalf("after %d the token %d", last, token)
		}
		last = token
		d.transition(ends(id, messages.Soft, messages.ReasonExternal))
	}
}

// I3, I5: a row of the outbox that was published before a restore is not the one that has its number since: taking
// the first off the record leaves the second there.
func TestI3I5OutboxRowThatGotAnothersNumberStays(t *testing.T) {
	t.Parallel()
	d := newRunningDB(t)
	d.drone("dr-a")
	d.spawn("k", "b-1", "dr-a")
	d.exec(`delete from outbox`)
	restore := d.dump()
	before := d.transition(reported("b-1", messages.Loading), reported("b-1", messages.Starting))
	restore()
	after := d.transition(reported("b-1", messages.Ready))
	if len(after) != 1 || after[0].ID != before[0].ID {
		t.Fatalf("%+v has no number of %+v", after, before)
	}
	if err := d.DeleteOutbox(t.Context(), before); err != nil {
		t.Fatal(err)
	}
	if n := one[int](d, `select count(*) from outbox where status = 50`); n != 1 {
		t.Fatal("the state ready was taken off the record before it was published")
	}
	if err := d.DeleteOutbox(t.Context(), after); err != nil {
		t.Fatal(err)
	}
	// Of whatever kind, a row is taken off by what was given of it when it was written.
	d.register("dr-a", session)
	rows := d.transition(store.Change{BackendID: "b-1", Event: lifecycle.Forgotten{}})
	claimed, err := d.ClaimOutbox(t.Context(), true, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range append(rows, claimed...) {
		if r.Kind != outbox.KindTerminate {
			if err := d.DeleteOutbox(t.Context(), []outbox.Row{r}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := one[int](d, `select count(*) from outbox where kind <> 'terminate'`); n != 0 {
		t.Errorf("%d rows stay for ever", n)
	}
}
