//go:build linux

package torture_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// nap puts a backend to sleep, or wakes it, by hand.
func (c *clients) nap(ctx context.Context, client int, random *rand.Rand) {
	link, ok := c.link(random)
	if !ok {
		return
	}
	subject, what := messages.SubjectSleep, "sleep"
	if random.IntN(3) == 0 {
		subject, what = messages.SubjectWake, "wake"
	}
	o, _ := c.request(ctx, op{client: client, what: what, key: link.key, backendID: link.backendID}, subject, messages.NapRequest{BackendID: link.backendID}, 2*time.Second)
	c.note(o)
}

// sleeper is a backend that has slept, as the database has it.
type sleeper struct {
	ID, Drone string
	Nap       int64
}

// sleepers are those that may sleep now.
func (s *system) sleepers() ([]sleeper, error) {
	return rows(s.audit, pgx.RowToStructByPos[sleeper], "select id, drone, nap from backend where status = 50 and asked = 0 order by random()")
}

// repeatNap has a drone get an action of sleep or wake once more, as a bus may bring one late.
func (c *clients) repeatNap(ctx context.Context, client int, random *rand.Rand) {
	found, err := c.s.sleepers()
	if err != nil {
		return
	}
	for _, b := range found {
		if b.Nap == 0 {
			continue
		}
		nap := 1 + random.Int64N(b.Nap)
		action := messages.NewNapAction(b.ID, time.Now(), nap)
		o := op{client: client, what: "late nap", backendID: b.ID, call: c.s.now(), outcome: granted, message: fmt.Sprintf("%d of %d", nap, b.Nap)}
		if c.asker.nc.Publish(messages.ActionSubject(b.Drone), messages.Encode(action)) != nil {
			o.outcome = unknown
		}
		o.done = c.s.now()
		c.note(o)
		return
	}
}

// checkSleep: once all faults are over, what is to be awake runs and what is to sleep does not, by what its process does; and what sleeps
// wakes for who visits it, or by hand.
func (s *system) checkSleep(c *clients) {
	s.t.Helper()
	s.repeatNaps(c)
	if wrong := s.settlesAs(func(b sleeper) bool { return messages.AsleepAt(b.Nap) }, nil); wrong != "" {
		s.failf("sleep: %s after the last fault, %s", testkit.Patience, wrong)
		return
	}
	wake := func(b sleeper) {
		if link, ok := c.linkTo(b.ID); ok && len(b.ID)%2 == 0 {
			_, _, _ = c.get(s.t.Context(), s.proxyAddrs[0], link.url)
		}
		_, _, _ = c.asker.ask(s.t.Context(), messages.SubjectWake, messages.NapRequest{BackendID: b.ID}, 2*time.Second)
	}
	if wrong := s.settlesAs(func(sleeper) bool { return false }, wake); wrong != "" {
		s.failf("sleep: %s after it was woken, %s", testkit.Patience, wrong)
	}
}

// repeatNaps has every backend that lives sleep and wake once more, and its drone then get the action before the last one again. There are some.
func (s *system) repeatNaps(c *clients) {
	s.t.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	found, err := s.sleepers()
	for limit := time.Now().Add(testkit.Patience); (err != nil || len(found) < keys/2) && time.Now().Before(limit); found, err = s.sleepers() {
		c.connect(s.t.Context(), 0, random)
		sleep(s.t.Context(), 200*time.Millisecond)
	}
	for _, b := range found {
		for _, subject := range []string{messages.SubjectSleep, messages.SubjectWake} {
			_, _, _ = c.asker.ask(s.t.Context(), subject, messages.NapRequest{BackendID: b.ID}, 2*time.Second)
		}
	}
	for limit := time.Now().Add(testkit.Patience); err == nil && time.Now().Before(limit); sleep(s.t.Context(), 100*time.Millisecond) {
		if n, err := query[int](s.audit, "select count(*) from outbox where kind = 'nap'"); err == nil && n == 0 {
			break // all drones have what they are to have
		}
	}
	found, err = s.sleepers()
	for _, b := range found {
		if err == nil && b.Nap > 1 {
			err = c.asker.nc.Publish(messages.ActionSubject(b.Drone), messages.Encode(messages.NewNapAction(b.ID, time.Now(), b.Nap-1)))
		}
	}
	if err != nil {
		s.failf("harness: %v", err)
	}
}

// settlesAs waits until each backend that may sleep was once seen to be as it is to be, or has ended, and says which was not. do, unless nil, is done to those
// that are not.
func (s *system) settlesAs(toSleep func(sleeper) bool, do func(sleeper)) (wrong string) {
	seen := map[string]bool{}
	last := map[string]sleeper{}
	writes := map[string]int{}
	for limit := time.Now().Add(testkit.Patience); time.Now().Before(limit); sleep(s.t.Context(), 500*time.Millisecond) {
		now, err := s.sleepers()
		if err != nil {
			continue
		}
		var left []string
		for _, b := range now {
			l, runs := s.register.of(b.ID)
			if !runs || l.To != 0 || seen[b.ID] {
				continue // it ends, which the others look at
			}
			n, before := l.Writes+l.Stale, writes[b.ID]
			if last[b.ID] == b && toSleep(b) == (n == before) {
				seen[b.ID] = true
				continue
			}
			state := "runs"
			if n == before {
				state = "does not run"
			}
			left = append(left, fmt.Sprintf("backend %s of %s, with nap %d, %s", b.ID, b.Drone, b.Nap, state))
			last[b.ID], writes[b.ID] = b, n
			if do != nil {
				do(b)
			}
		}
		if wrong = strings.Join(left, "; "); wrong == "" {
			return ""
		}
	}
	return wrong
}

// linkTo gives an answer that led to a backend.
func (c *clients) linkTo(backend string) (op, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, link := range c.links {
		if link.backendID == backend {
			return link, true
		}
	}
	return op{}, false
}
