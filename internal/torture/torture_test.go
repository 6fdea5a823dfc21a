//go:build linux

package torture_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

const clientCount = 8

// I1 to I8, under faults of all kinds at random; in the small form under one of each kind,
// for a moment each.
func TestTorture(t *testing.T) {
	length := *duration
	if length == 0 {
		length = testkit.Sized(t, 0, 25*time.Second)
	}
	dir := workDir(t)
	var flags []string
	if *duration > 0 { // it rebuilds the standard library
		path, err := overlay(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		flags = []string{"-overlay", path}
	}
	var kinds []string
	if *only != "" {
		kinds = strings.Split(*only, ",")
	}
	s := torture(t, dir, build(t, dir, flags...), length, kinds)
	s.verdict()
}

// workDir holds programs, data and logs of a run; it is kept when the run fails and
// a directory for it was named.
func workDir(t *testing.T) string {
	t.Helper()
	dir := *report
	if dir == "" {
		dir = t.TempDir()
	}
	dir = filepath.Join(dir, strings.ReplaceAll(t.Name(), "/", "-"))
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// torture is one run, with the verdict still to come: for some time, or, where length is 0,
// until each kind of fault was done. only are the kinds of faults; nil: all.
func torture(t *testing.T, dir, jetway string, length time.Duration, only []string, env ...string) *system {
	t.Helper()
	number := *seed
	if number == 0 {
		number = rand.Uint64N(1e9)
	}
	t.Logf("seed %d; again with: make torture SEED=%d DURATION=%s", number, number, length)
	s := newSystem(t, dir, jetway, env...)
	s.audit = startAudit(t, s)
	c := newClients(s)
	f := newFaults(s, c.asker, only...)
	f.small = length == 0
	s.awaitQuiet(c)
	before := s.memory()

	ctx, stop := context.WithCancel(t.Context())
	if !f.small {
		ctx, stop = context.WithTimeout(t.Context(), length)
	}
	defer stop()
	var running sync.WaitGroup
	many := clientCount
	if f.small { // each backend is a process, and what they ask for beside each fault is enough
		many, c.pause = clientCount/2, 2*c.pause
	}
	for i := range many {
		running.Go(func() { c.run(ctx, i, rand.New(rand.NewPCG(number, uint64(i)))) })
	}
	running.Go(func() {
		defer stop()
		f.run(ctx, rand.New(rand.NewPCG(number, 1000)))
	})
	running.Wait()
	for _, l := range s.links() {
		l.Heal()
	}
	s.checkSleep(c)
	s.endAll(c)
	s.check(c, f, before)
	return s
}

// awaitQuiet waits until a connect is granted and its backend answers through each proxy.
func (s *system) awaitQuiet(c *clients) {
	s.t.Helper()
	testkit.Eventually(s.t, "all drones are there", func() bool {
		n, err := query[int](s.audit, "select count(*) from drone d join session s on s.drone = d.name and s.id = d.session where s.ready and s.sealed_at is null")
		return err == nil && n == len(s.drones)
	})
	testkit.Eventually(s.t, "the template is there", func() bool { return c.putTemplate(s.t.Context(), 0, "0") == granted })
	random := rand.New(rand.NewPCG(1, 1))
	testkit.Eventually(s.t, "the stack answers", func() bool {
		c.connect(s.t.Context(), 0, random)
		link, ok := c.link(random)
		if !ok {
			return false
		}
		for _, proxy := range s.proxyAddrs {
			if status, _, err := c.get(s.t.Context(), proxy, link.url); err != nil || status != 200 {
				return false
			}
		}
		return true
	})
}

// lateGrant is more than the longest time in which a worker may still grant a connect, counted from when it reads it: its asker may have gone, but
// while that is so not all has been asked for.
const lateGrant = 4 * time.Second

// endAll asks all that lives to end and waits until it has: also what nobody asks for must.
func (s *system) endAll(c *clients) {
	s.t.Helper()
	limit, quiet := time.Now().Add(testkit.Patience), time.Now()
	asked := map[string]time.Time{}
	for time.Now().Before(limit) {
		ids, err := rows(s.audit, pgx.RowTo[string], "select id from backend where ended_at is null")
		if err != nil {
			continue
		}
		for _, id := range ids {
			if time.Since(asked[id]) > 10*time.Second {
				asked[id] = time.Now()
				_, _, _ = c.asker.ask(s.t.Context(), messages.SubjectTerminate, messages.TerminateRequest{BackendID: id}, 10*time.Second)
			}
		}
		left, err := query[int](s.audit, "select count(*) from outbox")
		if len(ids) > 0 || err != nil || left > 0 || len(s.register.running()) > 0 {
			quiet = time.Now()
		}
		if time.Since(quiet) > lateGrant {
			return
		}
		sleep(s.t.Context(), 100*time.Millisecond)
	}
	s.failf("I6: not all has ended %s after the last fault", testkit.Patience)
}

// check holds the records against the invariants.
func (s *system) check(c *clients, f *faults, before map[string]int64) {
	s.t.Helper()
	streamed := s.audit.stream(s.t, s.nodeURLs[0])
	s.checkExclusive()
	s.checkLeases(f.done)
	s.checkKept(f.done)
	s.checkBounds(before)
	for _, what := range append(c.asker.twice(), s.register.wrong...) {
		s.fail(what)
	}
	if !lostCommits(f.done) {
		spawned := s.checkEffects(c.ops)
		s.checkEvents(streamed)
		s.checkLeaving(c.ops)
		lives := map[string]life{}
		for _, l := range s.register.lives {
			lives[l.BackendID] = *l
		}
		s.checkHistory(operations(c.ops, spawned, lives, s.audit.endedAt), f.done, filepath.Join(s.dir, "history.html"))
	}
	s.shutDown()
	s.summary(c, f)
}

// shutDown ends the system as its operators do, and nothing may be left of it.
func (s *system) shutDown() {
	s.t.Helper()
	for _, group := range [][]*proc{s.proxies, s.drones, s.workers, s.nodes} {
		var ending sync.WaitGroup
		for _, p := range group {
			ending.Go(func() { p.end(syscall.SIGTERM) })
		}
		ending.Wait()
	}
	limit := time.Now().Add(testkit.Patience)
	for left := s.processes(); len(left) > 0; left = s.processes() {
		if time.Now().After(limit) {
			s.failf("I8: processes are left behind: %v", left)
			return
		}
		sleep(s.t.Context(), 50*time.Millisecond)
	}
}

// summary says what was done; of a run that failed, all of it.
func (s *system) summary(c *clients, f *faults) {
	s.t.Helper()
	count := map[string]int{}
	for _, o := range c.ops {
		count[o.what+" "+o.outcome.String()]++
	}
	for _, done := range f.done {
		count["fault: "+done.name]++
	}
	for _, l := range s.register.lives {
		if l.Claimed {
			count["spares claimed"]++
		}
	}
	s.t.Logf("%d operations, %d processes of backends, %d faults: %v", len(c.ops), len(s.register.lives), len(f.done), count)
	if len(s.wrong) == 0 {
		return
	}
	var text strings.Builder
	fmt.Fprintf(&text, "== wrong\n%s\n== faults\n", strings.Join(s.wrong, "\n"))
	for _, done := range f.done {
		fmt.Fprintln(&text, done)
	}
	for _, key := range c.keys {
		text.WriteString(story(key.String(), c.ops, s.register.lives, f.done))
	}
	path := filepath.Join(s.dir, "history.txt")
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		s.failf("harness: %v", err)
	}
	s.t.Logf("the whole history is in %s", path)
}

// verdict fails the test with what is wrong.
func (s *system) verdict() {
	s.t.Helper()
	for i, what := range s.wrong {
		if i == 20 {
			s.t.Errorf("… and %d more", len(s.wrong)-i)
			break
		}
		s.t.Error(what)
	}
}
