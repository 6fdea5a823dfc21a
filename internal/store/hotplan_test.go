package store_test

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/internal/lifecycle"
	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// planned are the tables whose size counts backends, keys or connections. The drones
// are few, and not among them.
var planned = []string{"lease", "backend", "token"}

// anythingDue are the statements that look for what is due in the outbox, which is short but
// for hard times. All others look up rows of backends, also then.
var anythingDue = regexp.MustCompile(`due_at (<=|>) now\(\)`)

// manyRows is how many backends a database in use has.
func manyRows(t testing.TB) int {
	t.Helper()
	return testkit.Sized(t, 2000, 50_000)
}

// used makes a database in use: 20 drones; keys with backends, of which a tenth
// live, tokens, and what piles up while the bus is away.
func (d *db) used(rows int) {
	d.t.Helper()
	for i := range 20 {
		d.drone(fmt.Sprintf("dr-%d", i))
	}
	d.exec(`insert into lease (namespace, name, tag, backend_id, fencing_token, released_at, sealed_until)
		select '', 'k-late-' || i, '', 'o-' || i, i, case when i % 10 > 0 then now() end,
			case when i = 20 then now() end
		from generate_series(1, $1::int) i`, rows)
	d.exec(`insert into backend (id, namespace, name, tag, cluster, pool, drone, session, status, ended_at)
		select 'o-' || i, '', 'k-late-' || i, '', 'c.test', '', 'dr-' || i % 20, 's-1',
			case when i % 10 > 0 then 70 else 50 end, case when i % 10 > 0 then now() end
		from generate_series(1, $1::int) i`, rows)
	d.exec(`insert into token (hash, backend_id, username, auth, secret, expires_at)
		select sha256(('t-' || i)::bytea), 'o-' || i, '', '{}', '', now() + interval '1 hour'
		from generate_series(1, $1::int) i`, rows)
	d.exec(`insert into outbox (id, kind, backend_id, drone, status, until_status, due_at)
		select nextval('outbox_id'), 'spawn', 'o-' || i, 'dr-' || i % 20, 10, 20, now() + interval '1 hour'
		from generate_series(1, $1::int) i`, rows)
}

// notices collects the plans that a connection's auto_explain sends.
type notices struct {
	mu    sync.Mutex
	plans []string
}

func (n *notices) add(_ *pgconn.PgConn, notice *pgconn.Notice) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.plans = append(n.plans, notice.Message)
}

// take gives the plans so far, and forgets them.
func (n *notices) take() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	plans := n.plans
	n.plans = nil
	return plans
}

// hot runs every statement that a worker runs often, on keys and backends of its
// own, in batches of the size that load makes.
func (d *db) hot(s *store.Store, round string) {
	d.t.Helper()
	const batch = 64
	ctx := d.t.Context()
	check := func(what string, err error) {
		d.t.Helper()
		if err != nil {
			d.t.Fatal(what, ": ", err)
		}
	}
	var wants []lease.Want
	var ids, tokens []string
	var loading, ended, refusals []store.Change
	d.exec(`update session set heard_at = now(), expires_at = now() + interval '1 minute'`)
	for i := range batch {
		id := fmt.Sprintf("b-%s-%d", round, i)
		w := within(want("new-"+id, id, "dr-1"), time.Minute)
		switch i % 4 {
		case 1: // join one of used's, and take over the first
			w.Key.Name = fmt.Sprintf("k-%s-%d", round, 10*(1+i))
		case 2: // acquire a released one
			w.Key.Name = fmt.Sprintf("k-%s-%d", round, 10*(1+i)+1)
		}
		wants = append(wants, w)
		tokens = append(tokens, "token-of-"+id, "s."+id)
		if i%8 == 7 {
			refusals = append(refusals, refused(id))
		} else if i%4 == 0 || i%4 == 3 {
			ids = append(ids, id)
			loading = append(loading, reported(id, messages.Loading), reported(id, messages.Ready))
			ended = append(ended, store.Change{BackendID: id, Event: lifecycle.Reported{State: messages.State{Status: messages.Terminated}}})
		}
	}
	_, _, err := s.Connect(ctx, wants)
	check("connect", err)
	joins := make([]lease.Want, 0, batch)
	for _, w := range wants {
		w.Spawn = nil
		w.Tokens = []lease.Token{{Hash: lease.HashToken("joining-" + w.Key.Name), Auth: []byte("{}"), LifeSeconds: 3600}}
		joins = append(joins, w)
	}
	_, _, err = s.Connect(ctx, joins)
	check("join", err)
	rows, err := s.ClaimOutbox(ctx, true, 100)
	check("claim", err)
	holder := &store.Holder{Drone: "dr-1", Session: session}
	_, _, err = s.Transition(ctx, holder, loading)
	check("transition", err)
	again, _, err := s.Transition(ctx, holder, refusals)
	check("place again", err)
	if round == "late" && len(again) != len(refusals) { // else there is one drone
		d.t.Errorf("%d of %d were placed again", len(again), len(refusals))
	}
	_, err = s.Routes(ctx, tokens)
	check("routes", err)
	_, err = s.Heartbeat(ctx, "dr-1", &messages.HeartbeatRequest{Session: session, DroneTimeMS: 5000, Ready: true})
	check("heartbeat", err)
	check("keepalive", s.Keepalive(ctx, "px-a", &messages.KeepaliveRequest{Backends: ids}))
	_, err = s.Wake(ctx, ids)
	check("wake", err)
	_, err = s.Register(ctx, "dr-1", registration("dr-1", session, ids...))
	check("register", err)
	_, _, err = s.Backend(ctx, ids[0])
	check("status", err)
	_, _, err = s.Transition(ctx, holder, ended)
	check("end", err)
	check("delete", s.DeleteOutbox(ctx, rows))
}

// planNode is what counts of a plan in JSON.
type planNode struct {
	Type     string     `json:"Node Type"`
	Relation string     `json:"Relation Name"`
	Index    string     `json:"Index Name"`
	Cond     string     `json:"Index Cond"`
	Plans    []planNode `json:"Plans"`
}

// walks says where a plan goes through a whole table: it reads it from end to end,
// or an index of it without a condition. In the index of sealed keys is nothing else.
func (p planNode) walks(tables []string) (bad []string) {
	for _, table := range tables {
		onTable := p.Relation == table || strings.HasPrefix(p.Index, table+"_")
		if onTable && (p.Type == "Seq Scan" || p.Index != "" && p.Index != "lease_sealed" && p.Cond == "") {
			bad = append(bad, fmt.Sprintf("%s on %s %s", p.Type, table, p.Index))
		}
	}
	for _, child := range p.Plans {
		bad = append(bad, child.walks(tables)...)
	}
	return bad
}

// checkPlans fails for the plans that walk, and says how many there were.
func (d *db) checkPlans(plans []string) (seen int) {
	d.t.Helper()
	for _, text := range plans {
		_, body, ok := strings.Cut(text, "plan:\n")
		if !ok {
			continue
		}
		var explained struct {
			Query string   `json:"Query Text"`
			Plan  planNode `json:"Plan"`
		}
		if err := json.Unmarshal([]byte(body), &explained); err != nil {
			d.t.Fatalf("a plan cannot be read: %v\n%s", err, body)
		}
		seen++
		tables := planned
		if !anythingDue.MatchString(explained.Query) {
			tables = append(slices.Clip(tables), "outbox")
		}
		if bad := explained.Plan.walks(tables); len(bad) > 0 {
			d.t.Errorf("%s in the plan of\n%s", strings.Join(bad, ", "), explained.Query)
		}
	}
	return seen
}

// A plan is made once a connection and kept, so it must hold both when it was made
// while the tables were empty and when it was made for full ones, with statistics
// and without.
func TestI8NoHotStatementReadsAWholeTable(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		mode     string // plan_cache_mode; custom plans know the values
		before   bool   // plans are made while the tables are empty
		analyzed bool
	}{
		{"plans made before the rows came", "force_generic_plan", true, false},
		{"fresh rows, generic plans", "force_generic_plan", false, false},
		{"fresh rows, custom plans", "force_custom_plan", false, false},
		{"analyzed rows, generic plans", "force_generic_plan", false, true},
		{"analyzed rows, custom plans", "force_custom_plan", false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := newRunningDB(t)
			d.drone("dr-1")
			d.exec(`alter table lease set (autovacuum_enabled = off); alter table backend set (autovacuum_enabled = off); alter table token set (autovacuum_enabled = off)`)
			said := new(notices)
			s := store.WithPool(d.Store, d.explaining(said, c.mode))
			if c.before {
				d.hot(s, "early")
			}
			d.used(manyRows(t))
			if c.analyzed {
				d.exec(`analyze`)
			}
			said.take()
			d.hot(s, "late")
			if seen := d.checkPlans(said.take()); seen < 13 {
				t.Errorf("only %d plans were seen", seen)
			}
		})
	}
}

// explaining is a pool of one connection, set up as the store's are, that sends the
// plan of each statement it runs.
func (d *db) explaining(said *notices, mode string) *pgxpool.Pool {
	d.t.Helper()
	cfg := d.raw.Config()
	cfg.MaxConns = 1
	cfg.ConnConfig.OnNotice = said.add
	cfg.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, `load 'auto_explain';
			set auto_explain.log_min_duration = 0; set auto_explain.log_format = 'json';
			set auto_explain.log_level = 'notice'; set client_min_messages = 'notice';
			set jit = off; set enable_seqscan = off; set plan_cache_mode = `+mode)
		return err
	}
	pool, err := pgxpool.NewWithConfig(d.t.Context(), cfg)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(pool.Close)
	return pool
}
