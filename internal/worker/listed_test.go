package worker_test

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// I7 and I8: beside a million and a half of ended backends, six who list all the time, each in another way, keep nobody's keepalive from being
// served: a backend that somebody is connected to does not end as idle. Each page is one reply that the server takes.
func TestI7I8ListingsOfMillionsEndNoSession(t *testing.T) {
	testkit.Long(t)
	t.Parallel()
	const ended, maxIdle = 1_500_000, 30 * time.Second
	w := newWorld(t)
	startWorker(t, w, "wo-a", options{})
	p := startPeer(t, w, "dr-a")
	w.talkative(300)
	_, err := w.db.Exec(testkit.Context(t), `insert into backend (id, namespace, name, tag, cluster, pool, drone, session, status, ended_at)
		select 'c-' || lpad(i::text, 12, '0'), '', 'k-' || i, '', 'c', '', 'dr-' || chr(97 + i % 10), 's-1', 70, now() from generate_series(1, $1) i`, ended)
	must(t, err)
	_, err = w.db.Exec(testkit.Context(t), "analyze backend")
	must(t, err)
	idle := int64(maxIdle / time.Second)
	visited := spawnKey("doc")
	visited.SpawnConfig.MaxIdleSeconds = &idle
	backend := w.connect(visited).BackendID
	p.report(backend, messages.Ready)

	stop := make(chan struct{})
	var listing sync.WaitGroup
	defer listing.Wait()
	stopListing := sync.OnceFunc(func() { close(stop) })
	defer stopListing()
	most := int(w.nc.MaxPayload())
	var pages, longest atomic.Int64
	var mu sync.Mutex
	slowest := map[string]time.Duration{}
	for name, first := range map[string]messages.BackendsRequest{
		"live": {}, "all": {All: true}, "a drone's": {Drone: "dr-a"}, "all of a drone": {All: true, Drone: "dr-a"},
		"nobody's": {All: true, Drone: "dr-none"}, "all from the middle on": {All: true, Page: messages.Page{After: "c-000000750000"}},
	} {
		first.Limit = messages.MaxPage
		listing.Go(func() {
			for r := first; ; {
				select {
				case <-stop:
					return
				default:
				}
				began := time.Now()
				data, refusal := w.ask(messages.SubjectBackends, r)
				took := time.Since(began)
				if refusal != nil || len(data) > most {
					t.Errorf("%s: a page of %d bytes, %v", name, len(data), refusal)
					return
				}
				pages.Add(1)
				mu.Lock()
				slowest[name] = max(slowest[name], took)
				longest.Store(max(longest.Load(), int64(len(data))))
				mu.Unlock()
				if r.After = as[messages.BackendsResponse](t, data).Next; r.After == "" {
					r = first
				}
			}
		})
	}
	// As a proxy does with an open connection; and as a drone.
	var took []time.Duration
	for began := time.Now(); time.Since(began) < maxIdle*3/2; {
		asked := time.Now()
		_, refusal := w.await(w.send(messages.KeepaliveSubject("px-a"), messages.Encode(messages.KeepaliveRequest{Backends: []string{backend}}), nats.Header{}))
		if refusal != nil {
			t.Errorf("a keepalive: %v", refusal)
		}
		took = append(took, time.Since(asked))
		p.heartbeat()
		<-time.After(time.Second)
	}
	stopListing()
	listing.Wait()
	if info := w.status(backend); info.Status != messages.Ready {
		t.Errorf("the backend that somebody is connected to is %+v", info)
	}
	if pages.Load() < 100 || longest.Load() < int64(most/2) {
		t.Errorf("there were %d pages, the longest of %d bytes", pages.Load(), longest.Load())
	}
	slices.Sort(took)
	t.Logf("%d pages, the longest of %d bytes; the slowest took %v; %d keepalives took %v (p50), %v at most",
		pages.Load(), longest.Load(), slowest, len(took), took[len(took)/2], took[len(took)-1])
}
