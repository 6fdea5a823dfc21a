package worker_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/internal/testkit/pgtest"
	"github.com/jetway-project/jetway/messages"
	"github.com/jetway-project/jetway/messages/client"
)

// load asks for ever new keys until it is stopped.
type load struct {
	granted, refused atomic.Int64
	stop             func()
}

// startLoad asks from so many places at once, each a moment after it was answered. It wants
// every answer to be a grant or Unavailable.
func startLoad(t *testing.T, w *world, askers int) *load {
	t.Helper()
	nc, err := bus.Connect(t.Context(), bus.Config{URL: w.url, Name: "web", Log: testkit.Logger(t)})
	must(t, err)
	t.Cleanup(nc.Close)
	l := &load{}
	ctx, cancel := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	for a := range askers {
		asking.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				// Who stops asking waits for the last answer: what is asked for may be granted after its asker has gone.
				try, cancel := context.WithTimeout(t.Context(), testkit.Patience)
				_, err := client.Request[messages.ConnectResponse](try, nc, messages.SubjectConnect, spawnKey(fmt.Sprintf("doc-%d-%d", a, i)))
				cancel()
				switch kind := messages.KindOf(err); {
				case err == nil:
					l.granted.Add(1)
				case kind == messages.Unavailable:
					l.refused.Add(1)
				case t.Context().Err() == nil && kind != messages.NoDroneAvailable: // a drone could not say that it lives
					t.Errorf("a connect: %v", err)
				}
				select { // enough to be under way, and not so much that nothing else is
				case <-time.After(5 * time.Millisecond):
				case <-ctx.Done():
				}
			}
		})
	}
	l.stop = sync.OnceFunc(func() {
		cancel()
		asking.Wait()
	})
	t.Cleanup(l.stop)
	return l
}

// I4, I5, I7 and I8: while Postgres is stopped, has crashed, or hangs, requests are refused
// one after the other and not each after its time-out, known routes are served and
// backends run on. When it is back, so is everything, and nothing is half done.
func TestI4I7PostgresAwayUnderLoad(t *testing.T) {
	t.Parallel()
	cluster := pgtest.OwnCluster(t)
	link := testkit.NewFaultProxy(t, cluster.TCPAddr())
	host, port, _ := strings.Cut(link.Addr(), ":")
	w := newWorldOf(t, natstest.Server(t).URL(), cluster.DSN())
	linked := options{dsn: fmt.Sprintf("%s host=%s port=%s sslmode=disable connect_timeout=10", cluster.DSN(), host, port)}
	startWorker(t, w, "wo-a", linked)
	startWorker(t, w, "wo-b", linked)
	d := startDrone(t, w, "dr-a", w.url)
	px := startProxy(t, w.url)
	early := w.connect(listening(t, "early"))
	wantServed := func() {
		t.Helper()
		if code, body := visit(t, px, early.Token); code != http.StatusOK || body != "early" {
			t.Errorf("a visit: %d %q", code, body)
		}
	}
	wantServed()
	wantOrder := listen(t, w)
	l := startLoad(t, w, 8)
	back := func(why string) {
		t.Helper()
		granted := l.granted.Load()
		testkit.Eventually(t, why+": connects are granted", func() bool { return l.granted.Load() > granted+testkit.Sized[int64](t, 10, 50) })
	}
	back("at first")
	type fault struct {
		what       string
		begin, end func()
	}
	faults := []fault{
		{"hanging", link.Stall, link.Heal},
		{"crashed", cluster.Kill, func() { must(t, cluster.Restart(t.Context())) }},
	}
	if testkit.Sized(t, false, true) {
		faults = append(faults,
			fault{"stopped", func() { must(t, cluster.Stop(t.Context())) }, func() { must(t, cluster.Restart(t.Context())) }},
			fault{"cut off", link.Cut, link.Heal},
			fault{"hanging again", link.Stall, func() { link.Cut(); link.Heal() }})
	}
	for _, fault := range faults {
		running, refused := len(d.rt.Live()), l.refused.Load()
		fault.begin()
		// 8 askers that each wait for their time-out, which is a minute, would take more than an hour.
		testkit.Eventually(t, fault.what+": connects are refused at once", func() bool {
			wantServed() // a link in use: what nobody has asked for within the proxy's trust, it cannot find out now
			return l.refused.Load() > refused+testkit.Sized[int64](t, 200, 2000)
		})
		wantServed()
		if n := len(d.rt.Live()); n < running {
			t.Errorf("%s: of %d backends, %d run", fault.what, running, n)
		}
		fault.end()
		back(fault.what)
		wantServed()
	}
	l.stop()
	testkit.Eventually(t, "all backends are ready", func() bool { return w.count("backend where status < 50") == 0 })
	testkit.Eventually(t, "nothing is left on record", func() bool { return w.count("outbox") == 0 })
	backends := w.count("backend where status = 50")
	if n := w.count("backend"); n != backends || int64(n) < l.granted.Load() || n != len(d.rt.Live()) {
		t.Errorf("%d backends, %d ready, %d run, %d granted", n, backends, len(d.rt.Live()), l.granted.Load())
	}
	for _, half := range []string{
		"backend b where not exists (select from lease l where l.backend_id = b.id and l.name = b.name and l.released_at is null)",
		"backend b where not exists (select from token t where t.backend_id = b.id)",
		"lease l where not exists (select from backend b where b.id = l.backend_id)",
		"token t where not exists (select from backend b where b.id = t.backend_id)",
	} {
		if n := w.count(half); n != 0 {
			t.Errorf("%d are half done: %s", n, half)
		}
	}
	wantOrder()
}
