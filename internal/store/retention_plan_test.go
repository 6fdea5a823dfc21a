package store_test

import (
	"fmt"
	"testing"

	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/internal/testkit"
)

// aged makes a number of each thing that retention deletes, named by the numbers after from; some of them, all
// over the tables, are past their time.
func (d *db) aged(from, rows, past int) {
	d.t.Helper()
	series := fmt.Sprintf(` from generate_series(%d, %d) i`, from+1, from+rows)
	old := fmt.Sprintf(`i %% %d = 0`, rows/past)
	age := `now() - case when ` + old + ` then interval '30 days' else interval '0' end`
	for _, sql := range []string{
		`insert into drone (name, cluster, pool, session, runtime, version, max_backends, lost_at)
			select 'dr-' || i, 'c', '', 's-1', '', '', 0, ` + age,
		`insert into backend (id, namespace, name, tag, cluster, pool, drone, session, status, ended_at)
			select 'e-' || i, '', 'k-' || i, '', 'c', '', 'dr-' || i, 's-1', 70, ` + age,
		`insert into lease (namespace, name, tag, backend_id, fencing_token, released_at)
			select '', 'k-' || i, '', 'e-' || i, 1, ` + age,
		`insert into token (hash, backend_id, username, auth, secret, expires_at)
			select sha256(i::text::bytea), 'x-' || i, 'u', '{}', '', ` + age + ` + interval '1 hour'`,
		// The oldest rows of the outbox are the first.
		`insert into outbox (id, kind, backend_id, drone, created_at)
			select case when ` + old + ` then -i else i end, 'state', 'x-' || i, 'dr-x', ` + age,
	} {
		d.exec(sql + series)
	}
}

// What retention costs depends on what it deletes, not on how much there is: by the plans that were
// made when there was nothing, and by those made since.
func TestI8RetentionIsOneWalkAlongAnIndexHoweverMuchThereIs(t *testing.T) {
	t.Parallel()
	for index, sql := range store.RetainSQL {
		t.Run(index, func(t *testing.T) {
			t.Parallel()
			d := newRunningDB(t)
			args := []string{"500", "3600"}
			if index == "token_by_expiry" {
				args = args[:1]
			}
			e := newExplainer(t, d, sql, len(args))
			blocks := func() int {
				p := e.explain(args...)
				wantRetained(t, p, index)
				t.Logf("%d blocks\n%s", p.Hit+p.Read, p)
				return p.Hit + p.Read
			}
			const few, past = 30, 10
			many := testkit.Sized(t, 1200, 20_000)
			d.aged(0, few, past)
			atFirst := blocks()
			for i, plan := range []string{"old", "new"} {
				d.aged((i+1)*many, many, past)
				if later := blocks(); later > 3*atFirst+20 {
					t.Errorf("with an %s plan, to delete %d of %d rows touches %d blocks, and of %d rows %d", plan, past, many, later, few, atFirst)
				}
				d.exec(`vacuum analyze`)
			}
			d.aged(3*many, many, many/2)
			blocks() // a full batch, and no more is looked at
		})
	}
}

// wantRetained wants rows to be found by one walk along an index, deleted by where they are,
// and no node to look at more of them than a batch.
func wantRetained(t *testing.T, p *plan, index string) {
	t.Helper()
	walks := 0
	p.walk(func(n *plan) {
		if n.Index == index && n.Node == "Index Scan" {
			walks++
		}
		// A sequence is one row.
		if (n.Node == "Seq Scan" && n.Table != "fencing_token") || max(n.Rows, n.Removed)*n.Loops > 500 {
			t.Errorf("%s of %s %s looks at %v rows, %v times, and drops %v", n.Node, n.Table, n.Index, n.Rows, n.Loops, n.Removed)
		}
	})
	if walks < 1 || (walks > 1 && index != "outbox_pkey") {
		t.Errorf("%s is walked along %d times:\n%s", index, walks, p)
	}
}
