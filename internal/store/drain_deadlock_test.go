package store_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// I7: whoever asks is not told of a deadlock with something that is none of Jetway's, such as a migration or a restore: what
// Postgres has ended for it is done again. Found by the harness: undrain was refused as Internal.
func TestI7DeadlockWithAStrangerIsToldNobody(t *testing.T) {
	t.Parallel()
	d := newRunningDB(t)
	d.drone("dr-a")
	for off := false; ; off = !off {
		drained := make(chan error, 1)
		// It waits for longer than the other before it looks for a deadlock, so the other is ended.
		err := pgx.BeginFunc(t.Context(), d.raw, func(tx pgx.Tx) error {
			for _, sql := range []string{`set local deadlock_timeout = '1min'`, `update drone set pool = pool where name = 'dr-a'`} {
				if _, err := tx.Exec(t.Context(), sql); err != nil {
					return err
				}
			}
			go func() {
				_, _, ok, err := d.Drain(t.Context(), &messages.DrainRequest{Drone: "dr-a"}, off)
				if err == nil && !ok {
					t.Error("there is no such drone")
				}
				drained <- err
			}()
			testkit.Eventually(t, "it waits for the drone's row", func() bool {
				return one[int](d, `select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`) > 0
			})
			_, err := tx.Exec(t.Context(), `lock table outbox in access exclusive mode`)
			return err
		})
		if told := testkit.Receive(t, drained, "the answer"); told != nil {
			t.Fatal(told)
		}
		if err == nil {
			return
		}
		t.Log("the stranger was ended instead, once more: ", err) // on a slow machine, when it came to its lock too late
	}
}
