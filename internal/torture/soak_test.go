//go:build linux && long

package torture_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/jetway-project/jetway/internal/runtime/fake"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/internal/testkit/pgtest"
	"github.com/jetway-project/jetway/messages"
	"github.com/jetway-project/jetway/messages/client"
)

const (
	soakInFlight = 32
	// soakKeys are used again and again: what is kept of a key is kept once.
	soakKeys = 500
	// soakKept is for how long ended backends and events are kept.
	soakKept = time.Minute
	// measureFor is how long it is measured what the stack can do at most.
	measureFor = 20 * time.Second
)

// I8 over a long time: nothing fails, the load is half of what the stack can do, and the
// memory of Jetway's processes and of NATS, their goroutines, the streams and the rows of the
// database stay where they are. What is kept is kept for minutes here, not for a day: so all is reached
// that there is to reach. The size of the database's files is shown beside it.
func TestSoak(t *testing.T) {
	if *duration == 0 {
		t.Fatal("it takes how long: make soak DURATION=30m")
	}
	s := newSoak(t)
	most := s.load(t, measureFor, 0)
	rate := most / 2
	t.Logf("at most %.0f lives a second; soaking for %s with %.0f", most, *duration, rate)
	samples := make(chan []sample, 1)
	ctx, stop := context.WithTimeout(t.Context(), *duration)
	defer stop()
	go func() { samples <- s.watch(ctx, t) }()
	got := s.load(t, *duration, rate)
	t.Logf("%d lives, %.0f a second, %d failed", s.lives.Load(), got, s.failed.Load())
	if s.failed.Load() > 0 {
		t.Errorf("%d lives failed with nothing at fault, the first: %v", s.failed.Load(), *s.first.Load())
	}
	flat(t, <-samples)
	s.s.verdict()
}

// soak is a stack with a load.
type soak struct {
	s       *system
	nc      *nats.Conn
	js      jetstream.JetStream
	http    *http.Client
	proxy   string
	metrics map[string]string // of processes that show some: where
	exec    json.RawMessage
	keys    chan int
	lives   atomic.Int64
	failed  atomic.Int64
	first   atomic.Pointer[error]
}

func newSoak(t *testing.T) *soak {
	t.Helper()
	dir := workDir(t)
	jetway := build(t, dir)
	s := &system{t: t, dir: dir, start: time.Now(), mark: "JETWAY_TORTURE_RUN=soak-" + strconv.FormatInt(time.Now().UnixNano(), 36)}
	s.pg = pgtest.OwnCluster(t)
	s.register = startRegister(t, s.start)
	s.audit = newAudit(t, s)
	t.Cleanup(s.kill)
	s.startNode(natsNode{Name: "n-1", Port: freePort(t), StoreDir: filepath.Join(dir, "n-1")})
	k := &soak{s: s, metrics: map[string]string{}, keys: make(chan int, soakKeys), proxy: net.JoinHostPort("127.0.0.1", strconv.Itoa(freePort(t)))}
	for i := range soakKeys {
		k.keys <- i
	}
	begin := func(group *[]*proc, name, role string, args ...string) {
		p := &proc{name: name, env: []string{s.mark}, log: filepath.Join(dir, name+".log"), failed: s.fail}
		p.command = append([]string{jetway, role, "--name", name, "--nats", s.nodeURLs[0], "--log-level", "warn"}, args...)
		if role != "drone" {
			k.metrics[name] = net.JoinHostPort("127.0.0.1", strconv.Itoa(freePort(t)))
			p.command = append(p.command, "--metrics-addr", k.metrics[name])
		}
		*group = append(*group, p)
		s.begin(p)
	}
	begin(&s.workers, "wo-1", "worker", "--postgres", dsn(s.pg.TCPAddr()), "--default-cluster", cluster, "--lease-ttl", leaseTTL.String(), "--retain", soakKept.String())
	drone := fmt.Sprintf("dr-%d", time.Now().UnixNano()) // one agent of a machine has it, whatever else runs there
	begin(&s.drones, drone, "drone", "--cluster", cluster, "--runtime", "fake", "--data-dir", filepath.Join(dir, drone))
	begin(&s.proxies, "px-1", "proxy", "--listen", k.proxy)

	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }))
	t.Cleanup(backend.Close)
	k.exec = fake.Script{Address: backend.Listener.Addr().String()}.Executable()
	transport := &http.Transport{MaxIdleConnsPerHost: soakInFlight}
	t.Cleanup(transport.CloseIdleConnections)
	k.http = &http.Client{Transport: transport, Timeout: testkit.Patience}
	k.nc = natstest.Conn(t, s.nodeURLs[0], nats.RetryOnFailedConnect(true))
	k.js = natstest.JetStream(t, k.nc)
	testkit.Eventually(t, "the stack answers", func() bool {
		return k.life(t.Context()) == nil
	})
	k.keepEvents(t, soakKept)
	return k
}

// keepEvents changes for how long the stream keeps them, as an operator can with the nats
// command: a worker leaves a stream that is there as it is until it starts again.
func (k *soak) keepEvents(t *testing.T, age time.Duration) {
	t.Helper()
	stream, err := k.js.Stream(t.Context(), messages.StreamEvents)
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	cfg.MaxAge = age
	if _, err := k.js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
}

// life is one backend's: it is spawned, joined, reached through the proxy and ended.
func (k *soak) life(ctx context.Context) error {
	n := <-k.keys
	defer func() { k.keys <- n }()
	ctx, cancel := context.WithTimeout(ctx, testkit.Patience)
	defer cancel()
	req := messages.ConnectRequest{
		Key:         &messages.Key{Name: "k" + strconv.Itoa(n)},
		User:        "ada",
		SpawnConfig: &messages.SpawnConfig{Executable: k.exec},
	}
	var backend string
	for i := range 3 {
		resp, err := client.Request[messages.ConnectResponse](ctx, k.nc, messages.SubjectConnect, req)
		switch {
		case err != nil:
			return err
		case resp.Spawned != (i == 0):
			return fmt.Errorf("connect %d of key %d: spawned is %v", i+1, n, resp.Spawned)
		}
		backend = resp.BackendID
		if err := k.get(ctx, resp.Token); err != nil {
			return err
		}
	}
	_, err := client.Request[messages.Empty](ctx, k.nc, messages.SubjectTerminate, messages.TerminateRequest{BackendID: backend})
	return err
}

func (k *soak) get(ctx context.Context, token string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+k.proxy+"/"+token+"/", http.NoBody)
	if err != nil {
		return err
	}
	req.Host = cluster
	resp, err := k.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return err
	case string(body) != "hello":
		return fmt.Errorf("the proxy answers %d %.200q", resp.StatusCode, body)
	}
	return nil
}

// load makes lives for some time, so many a second, or as many as it can where rate is
// 0, and gives how many there were.
func (k *soak) load(t *testing.T, length time.Duration, rate float64) float64 {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), length)
	defer stop()
	k.lives.Store(0)
	due := make(chan struct{})
	go func() {
		defer close(due)
		begun := time.Now()
		for n := 1; ; n++ {
			if rate > 0 {
				sleep(ctx, time.Until(begun.Add(time.Duration(float64(n)/rate*float64(time.Second)))))
			}
			select {
			case due <- struct{}{}:
			case <-ctx.Done():
				return
			}
		}
	}()
	var running sync.WaitGroup
	for range soakInFlight {
		running.Go(func() {
			for range due {
				if err := k.life(t.Context()); err != nil {
					k.failed.Add(1)
					k.first.CompareAndSwap(nil, &err)
				}
				k.lives.Add(1)
			}
		})
	}
	running.Wait()
	return float64(k.lives.Load()) / length.Seconds()
}

// sample is what was looked at, by name.
type sample map[string]float64

// watch looks at intervals, and says what it sees.
func (k *soak) watch(ctx context.Context, t *testing.T) (all []sample) {
	t.Helper()
	every := max(*duration/60, 5*time.Second)
	for sleep(ctx, every); ctx.Err() == nil; sleep(ctx, every) {
		one := k.look(ctx)
		if ctx.Err() != nil {
			break
		}
		all = append(all, one)
		var text strings.Builder
		for _, name := range names(one) {
			fmt.Fprintf(&text, "  %s %.0f", name, one[name])
		}
		t.Logf("%6s, %d lives:%s", k.s.now().Round(time.Second), k.lives.Load(), &text)
	}
	return all
}

func names(s sample) (list []string) {
	for name := range s {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}

// What is measured in MiB and what in pieces; what is only shown is in brackets.
func (k *soak) look(ctx context.Context) sample {
	s := sample{}
	for _, p := range k.s.all() {
		s[p.name+" MiB"] = float64(p.residentMemory()) / (1 << 20)
	}
	for name, addr := range k.metrics {
		if n, err := goroutines(ctx, addr); err == nil {
			s[name+" goroutines"] = n
		}
	}
	for _, table := range []string{"backend", "lease", "token", "outbox", "drone", "session", "connection", "proxy"} {
		if n, err := query[int64](k.s.audit, "select count(*) from "+table); err == nil {
			s[table+" rows"] = float64(n)
		}
	}
	if n, err := query[int64](k.s.audit, "select pg_database_size(current_database())"); err == nil {
		s["[database MiB]"] = float64(n) / (1 << 20)
	}
	for _, name := range []string{messages.StreamActions, messages.StreamEvents, messages.StreamLogs} {
		if stream, err := k.js.Stream(ctx, name); err == nil {
			s[name+" messages"] = float64(stream.CachedInfo().State.Msgs)
		}
	}
	return s
}

// goroutines reads how many a process has among its metrics.
func goroutines(ctx context.Context, addr string) (float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/metrics", http.NoBody)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if text, ok := bytes.CutPrefix(lines.Bytes(), []byte("go_goroutines ")); ok {
			return strconv.ParseFloat(string(text), 64)
		}
	}
	return 0, fmt.Errorf("no go_goroutines at %s", addr)
}

// flat compares the last third of the samples with the one before; in the first one all
// fills up that is filled once: caches, pools, what is kept for some time.
func flat(t *testing.T, all []sample) {
	t.Helper()
	if len(all) < 6 {
		t.Fatalf("only %d samples: soak for longer", len(all))
	}
	third := len(all) / 3
	middle := func(some []sample, name string) float64 {
		var values []float64
		for _, s := range some {
			values = append(values, s[name])
		}
		slices.Sort(values)
		return values[len(values)/2]
	}
	for _, name := range names(all[0]) {
		before, after := middle(all[third:2*third], name), middle(all[2*third:], name)
		t.Logf("%-26s %8.0f then %8.0f", name, before, after)
		room := 100.0 // rows, goroutines, messages
		if strings.HasSuffix(name, " MiB") {
			room = 8
		}
		if !strings.HasPrefix(name, "[") && after > 1.1*before+room {
			t.Errorf("I8: %s rise: %.0f, and %.0f later", name, before, after)
		}
	}
}
