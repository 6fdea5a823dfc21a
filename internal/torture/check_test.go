//go:build linux

package torture_test

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// lostCommits says whether commits were lost with a database. What a granted request did, and what was
// published, may then be gone.
func lostCommits(done []fault) bool {
	return slices.ContainsFunc(done, func(f fault) bool { return f.name == "fail over" || f.name == "restore dump" })
}

// checkExclusive is I1: no two processes of a key at a time.
func (s *system) checkExclusive() {
	byKey := map[keyName][]*life{}
	for _, l := range s.register.lives {
		if !l.late {
			byKey[l.key()] = append(byKey[l.key()], l)
		}
	}
	for key, lives := range byKey {
		slices.SortFunc(lives, func(a, b *life) int { return cmp.Compare(a.From, b.From) })
		for i, l := range lives {
			for _, other := range l.overlaps {
				s.failf("I1: two processes of key %s at a time: backend %s (token %d) from %s to %s, backend %s (token %d) from %s to %s",
					key, other.BackendID, other.Token, other.From, other.To, l.BackendID, l.Token, l.From, l.To)
			}
			if i > 0 && l.Token <= lives[i-1].Token && l.BackendID != lives[i-1].BackendID {
				s.failf("I2: backend %s of key %s began after %s with fencing token %d, which is not greater than %d",
					l.BackendID, key, lives[i-1].BackendID, l.Token, lives[i-1].Token)
			}
			if l.Stale > 0 {
				s.failf("I1: backend %s of key %s wrote %d times after a newer one had", l.BackendID, key, l.Stale)
			}
		}
	}
}

// checkLeaving: who asks after a backend was asked to end does not get it.
func (s *system) checkLeaving(ops []op) {
	asked := map[string]time.Duration{}
	for _, o := range ops {
		if before, ok := asked[o.backendID]; o.what == "terminate" && o.outcome == granted && (!ok || o.done < before) {
			asked[o.backendID] = o.done
		}
	}
	for _, o := range ops {
		if at, ok := asked[o.backendID]; ok && o.what == "connect" && o.outcome == granted && !o.spawned && o.call > at {
			s.failf("terminate: backend %s was joined %s after it had been asked to end: %s", o.backendID, o.call-at, o)
		}
	}
}

type leaseRow struct {
	Namespace, Name, BackendID string
	Token                      int64
	Fault                      string
}

// checkLeases is I2, and what must hold of leases for I1, on all that was ever committed.
func (s *system) checkLeases(done []fault) {
	// A worker that starts, or reaches the database late, has not compared its clock with its own
	// yet: to it nothing has expired, and what nobody has sealed may be renewed.
	unsure := slices.ContainsFunc(done, func(f fault) bool { return !f.mild && f.name != "freeze workers" && f.name != "isolate drone" })
	type sessionRow struct{ Drone, ID, Fault string }
	sessions, err := rows(s.audit, pgx.RowToStructByPos[sessionRow], "select drone, id, fault from torture.session order by seq")
	if err != nil {
		s.failf("harness: %v", err)
	}
	for _, r := range sessions {
		if !unsure || r.Fault != "it was renewed though it had expired" {
			s.failf("I1: session %s of drone %s: %s", r.ID, r.Drone, r.Fault)
		}
	}
	found, err := rows(s.audit, pgx.RowToStructByPos[leaseRow], "select namespace, name, backend_id, fencing_token, fault from torture.lease order by seq")
	if err != nil {
		s.failf("harness: %v", err)
	}
	last := map[keyName]leaseRow{}
	for _, r := range found {
		key := keyName{r.Namespace, r.Name}
		if r.Fault != "" {
			s.failf("I1: key %s, backend %s: %s", key, r.BackendID, r.Fault)
		}
		if before, ok := last[key]; ok && before.BackendID != r.BackendID && r.Token <= before.Token {
			s.failf("I2: key %s went from backend %s to %s with fencing token %d after %d", key, before.BackendID, r.BackendID, r.Token, before.Token)
		}
		last[key] = r
	}
}

// checkEffects is I4: what was refused left nothing behind, what was granted all of it.
func (s *system) checkEffects(ops []op) (spawned map[string]bool) {
	set := func(sql string) map[string]bool {
		ids, err := rows(s.audit, pgx.RowTo[string], sql)
		if err != nil {
			s.failf("harness: %v", err)
		}
		found := make(map[string]bool, len(ids))
		for _, id := range ids {
			found[id] = true
		}
		return found
	}
	spawned = set("select id from torture.status where status = 10")
	leased := set("select backend_id from torture.lease")
	acted := set("select backend_id from torture.spawn")
	type tokenRow struct {
		BackendID string
		Hash      []byte
	}
	tokens := map[string][][]byte{}
	stored, err := rows(s.audit, pgx.RowToStructByPos[tokenRow], "select backend_id, hash from torture.token")
	if err != nil {
		s.failf("harness: %v", err)
	}
	for _, row := range stored {
		tokens[row.BackendID] = append(tokens[row.BackendID], row.Hash)
	}
	for _, o := range ops {
		switch {
		case o.what != "connect" || o.backendID == "":
		case o.outcome == refused:
			if spawned[o.backendID] || leased[o.backendID] || acted[o.backendID] || len(tokens[o.backendID]) > 0 {
				s.failf("I4: a connect was refused and left something behind: %s", o)
			}
		case o.outcome == granted:
			if !spawned[o.backendID] || !leased[o.backendID] || !acted[o.backendID] {
				s.failf("I4: granted without backend (%v), lease (%v) or action (%v): %s", spawned[o.backendID], leased[o.backendID], acted[o.backendID], o)
			}
			if o.tokenHash != nil && !slices.ContainsFunc(tokens[o.backendID], func(h []byte) bool { return bytes.Equal(h, o.tokenHash) }) {
				s.failf("I4: granted without its token: %s", o)
			}
		}
	}
	return spawned
}

type statusRow struct {
	ID     string
	Status int
	// At is before the commit, by the clock of this machine too.
	At time.Time
}

// checkEvents is I5: what was committed was published, nothing else was, and in order.
func (s *system) checkEvents(streamed []messages.StateEvent) {
	found, err := rows(s.audit, pgx.RowToStructByPos[statusRow], "select id, status, at from torture.state order by seq")
	if err != nil {
		s.failf("harness: %v", err)
	}
	s.audit.mu.Lock()
	heard, at := map[string]bool{}, map[string]time.Time{}
	for id, e := range s.audit.heard {
		heard[id], at[id] = true, e.wall
	}
	s.audit.mu.Unlock()
	last, again := map[string]int{}, map[string]bool{}
	for _, e := range streamed {
		heard[e.ID] = true
		// The same one may come again, of a worker that stood still for longer than the stream
		// knows ids: readers go by the number.
		if before := last[e.BackendID]; e.Number < before && !again[e.ID] {
			s.failf("I5: the stream has state %d of backend %s after %d", e.Number, e.BackendID, before)
		}
		last[e.BackendID], again[e.ID] = max(last[e.BackendID], e.Number), true
	}
	committed, reached := map[string]bool{}, map[string]int{}
	for _, r := range found {
		if r.Status <= reached[r.ID] {
			s.failf("I5: backend %s went from status %d to %d", r.ID, reached[r.ID], r.Status)
		}
		reached[r.ID] = r.Status
		id := messages.StateEventID(r.ID, messages.Status(r.Status))
		committed[id] = true
		if first := at[id]; !first.IsZero() && first.Before(r.At) && !s.pgClock.stepped.Load() {
			s.failf("I5: state %d of backend %s was published %s before it was committed", r.Status, r.ID, r.At.Sub(first))
		}
		if !heard[id] {
			s.failf("I5: state %d of backend %s was committed and never published", r.Status, r.ID)
		}
	}
	unsaid, err := rows(s.audit, pgx.RowToStructByPos[statusRow], "select id, status, at from torture.status t where not exists (select from torture.state s where s.id = t.id and s.status = t.status)")
	if err != nil {
		s.failf("harness: %v", err)
	}
	for _, r := range unsaid {
		s.failf("I5: backend %s got status %d and nobody was to be told", r.ID, r.Status)
	}
	for id := range heard {
		if !committed[id] {
			s.failf("I5: %s was published and never committed", id)
		}
	}
	for id, status := range reached {
		if status != int(messages.Terminated) {
			s.failf("I6: backend %s has status %d and does not end", id, status)
		}
	}
}

// checkKept is I3, where nothing worse befell drones than that their agents died and came
// back at once: what a drone has said to have taken is not lost by that, unless it was to
// end by then and did not in time.
func (s *system) checkKept(done []fault) {
	if slices.ContainsFunc(done, func(f fault) bool { return !f.mild }) {
		return
	}
	lost, err := rows(s.audit, pgx.RowTo[string], `select id from backend
		where termination_reason = 'lost' and last_status >= 20 and coalesce(asked_at, ended_at) = ended_at`)
	if err != nil {
		s.failf("harness: %v", err)
	}
	for _, id := range lost {
		s.failf("I3: backend %s, which its drone had taken, was lost though the drone was never away for long", id)
	}
}

// checkBounds is I8: afterwards nothing is left, in tables, processes or memory.
func (s *system) checkBounds(before map[string]int64) {
	for table, sql := range map[string]string{
		"outbox rows":         "select count(*) from outbox",
		"live backends":       "select count(*) from backend where ended_at is null",
		"unreleased leases":   "select count(*) from lease where released_at is null",
		"sessions of nobody":  "select count(*) from session s where s.sealed_at is null and not exists (select from drone d where d.name = s.drone and d.session = s.id)",
		"connections":         "select count(*) from connection c where not exists (select from backend b where b.id = c.backend_id and b.ended_at > now() - interval '2 days')",
		"backends unaudited":  "select count(*) from backend b where not exists (select from torture.status s where s.id = b.id)",
		"tokens of the ended": "select count(*) from token t join backend b on b.id = t.backend_id where b.ended_at < now() - interval '2 days'",
	} {
		n, err := query[int](s.audit, sql)
		if err != nil || n != 0 {
			s.failf("I8: %d %s are left (%v)", n, table, err)
		}
	}
	if stuck, err := rows(s.audit, pgx.RowTo[string], `select concat_ws(' ', 'row', o.id, o.kind, 'of', o.backend_id, 'for', o.drone, 'status', o.status, 'until', o.until_status,
			'tried', o.attempts, 'made', o.created_at, 'due', o.due_at, 'backend has', b.status, b.drone, b.termination_reason, b.ended_at)
			from outbox o left join backend b on b.id = o.backend_id limit 20`); err == nil {
		for _, row := range stuck {
			s.failf("I8: outbox: %s", row)
		}
	}
	for _, l := range s.register.running() {
		s.failf("I6: process %d of backend %s is left behind", l.PID, l.BackendID)
	}
	for _, p := range s.all() {
		if testkit.RaceDetector && slices.Contains(s.nodes, p) {
			continue // a node is this program
		}
		const room = 96 << 20 // what caches, pools and the collector may keep
		if after := p.residentMemory(); before[p.name] > 0 && after > 2*before[p.name]+room {
			s.failf("I8: %s has grown from %d to %d MiB", p.name, before[p.name]>>20, after>>20)
		}
	}
}

func (s *system) memory() map[string]int64 {
	all := map[string]int64{}
	for _, p := range s.all() {
		all[p.name] = p.residentMemory()
	}
	return all
}

// story is all that happened to one key, in order, for people.
func story(key string, ops []op, lives []*life, faults []fault) string {
	type line struct {
		at   time.Duration
		text string
	}
	var lines []line
	for _, o := range ops {
		if o.key.String() == key {
			lines = append(lines, line{o.call, o.String()})
		}
	}
	for _, l := range lives {
		if l.key().String() == key {
			lines = append(lines, line{l.From, fmt.Sprintf("%9.3fs %9.3fs  process %d of %s, token %d, %d writes, %d stale", l.From.Seconds(), l.To.Seconds(), l.PID, l.BackendID, l.Token, l.Writes, l.Stale)})
		}
	}
	for _, f := range faults {
		lines = append(lines, line{f.from, f.String()})
	}
	slices.SortStableFunc(lines, func(a, b line) int { return cmp.Compare(a.at, b.at) })
	var text strings.Builder
	fmt.Fprintf(&text, "== key %s\n", key)
	for _, l := range lines {
		text.WriteString(l.text + "\n")
	}
	return text.String()
}
