package certs

import (
	"context"
	"errors"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"pgregory.net/rapid"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
)

func openTest(t *testing.T, nc *nats.Conn) *storage {
	t.Helper()
	_, log := newLog(t)
	s, err := openStorage(t.Context(), nc, log)
	if err != nil {
		t.Fatal(err)
	}
	s.try, s.staleAfter = testkit.Patience, 2*testkit.Patience
	return s
}

// What certmagic expects of a storage; what one proxy stored, another one reads at once.
func TestStorageIsLikeFiles(t *testing.T) {
	t.Parallel()
	ctx, url := t.Context(), newBus(t)
	a, b := openTest(t, natstest.Conn(t, url)), openTest(t, natstest.Conn(t, url))
	files := []string{
		"acme/ca-dir/users/ops@example.com/ops.json", "acme/ca-dir/users/ops@example.com/ops.key",
		"certificates/ca-dir/wildcard_.a.example/wildcard_.a.example.crt", "certificates/ca-dir/a.example/a.example.crt", "..x/.y./z.",
	}
	for _, file := range files {
		if _, err := a.Load(ctx, file); !errors.Is(err, fs.ErrNotExist) || a.Exists(ctx, file) {
			t.Errorf("%s: %v before it is stored", file, err)
		}
		for _, value := range []string{"old", "value of " + file} {
			if err := a.Store(ctx, file, []byte(value)); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := b.Load(ctx, file); err != nil || string(got) != "value of "+file || !b.Exists(ctx, file) {
			t.Errorf("%s: %q, %v", file, got, err)
		}
		info, err := b.Stat(ctx, file)
		if err != nil || !info.IsTerminal || info.Key != file || info.Size != int64(len("value of "+file)) || info.Modified.IsZero() {
			t.Errorf("%s: %+v, %v", file, info, err)
		}
	}
	for _, c := range []struct {
		dir       string
		recursive bool
		want      []string
	}{
		{"acme/ca-dir/users", false, []string{"acme/ca-dir/users/ops@example.com"}},
		{"acme/ca-dir/users", true, files[:2]},
		{"", false, []string{"..x", "acme", "certificates"}},
		{"certificates/ca-dir/a", true, nil},
		{"certificates/ca-dir/a.example", true, files[3:4]},
	} {
		got, err := b.List(ctx, c.dir, c.recursive)
		slices.Sort(got)
		if !slices.Equal(got, c.want) || (err == nil) != (c.want != nil) || (err != nil && !errors.Is(err, fs.ErrNotExist)) {
			t.Errorf("%q (recursive %t) has %q, %v", c.dir, c.recursive, got, err)
		}
	}
	if info, err := b.Stat(ctx, "acme/ca-dir"); err != nil || info.IsTerminal {
		t.Errorf("a directory is %+v, %v", info, err)
	}
	for _, gone := range []string{"acme", files[2], files[2], "never/there"} {
		if err := b.Delete(ctx, gone); err != nil {
			t.Errorf("delete %s: %v", gone, err)
		}
	}
	for i, file := range files {
		if a.Exists(ctx, file) != (i > 2) {
			t.Errorf("%s is there: %t", file, i <= 2)
		}
	}
	if err := a.Store(ctx, files[2], []byte("again")); err != nil || !b.Exists(ctx, files[2]) {
		t.Error("what was deleted cannot be stored again: ", err)
	}
}

// Every name has a key of its own that the bucket takes.
func TestNamesBecomeKeys(t *testing.T) {
	t.Parallel()
	valid := regexp.MustCompile(`^[-/_=\.a-zA-Z0-9]+$`)
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.OneOf(rapid.StringMatching(`[a-z./@=_*-]{1,20}`), rapid.StringN(1, 20, 60)).Draw(t, "name")
		key := encode(name)
		if !valid.MatchString(key) || strings.HasPrefix(key, ".") || strings.HasSuffix(key, ".") || strings.Contains(key, "..") {
			t.Fatalf("%q becomes %q", name, key)
		}
		if decode(key) != name {
			t.Fatalf("%q becomes %q, which is %q", name, key, decode(key))
		}
	})
}

// A bus that is away is not taken for a certificate that is not there: it would be ordered.
func TestBusAwayIsNotAbsence(t *testing.T) {
	t.Parallel()
	server := natstest.Own(t)
	makeStreams(t, server.URL())
	nc := natstest.Conn(t, server.URL())
	s, ctx := openTest(t, nc), testkit.Context(t)
	if err := s.Store(ctx, "a/b", []byte("x")); err != nil {
		t.Fatal(err)
	}
	server.Stop()
	testkit.Eventually(t, "the bus is away", func() bool { return !nc.IsConnected() })
	hurried, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if _, err := s.Load(hurried, "a/b"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("read %v while the bus is away", err)
	}
	said := make(chan bool, 1)
	go func() { said <- s.Exists(ctx, "a/b") }()
	select {
	case there := <-said:
		t.Error("said of what cannot be seen that it is there: ", there)
	case <-time.After(50 * time.Millisecond):
	}
	server.Start()
	if !testkit.Receive(t, said, "an answer after the bus is back") {
		t.Error("it seems not to be there")
	}
}

// One holds a lock at a time, within a proxy and among proxies, and all get it.
func TestLockIsHeldByOneAtATime(t *testing.T) {
	t.Parallel()
	url := newBus(t)
	var inside, times atomic.Int64
	var running sync.WaitGroup
	for range 3 {
		s := openTest(t, natstest.Conn(t, url))
		for range 3 {
			running.Go(func() {
				ctx := testkit.Context(t)
				if err := s.Lock(ctx, "issue_cert_*.a.example"); err != nil {
					t.Error(err)
					return
				}
				if n := inside.Add(1); n != 1 {
					t.Errorf("%d hold the lock", n)
				}
				times.Add(1)
				if err := s.Store(ctx, "x", nil); err != nil { // something that takes a moment
					t.Error(err)
				}
				inside.Add(-1)
				if err := s.Unlock(ctx, "issue_cert_*.a.example"); err != nil {
					t.Error(err)
				}
			})
		}
	}
	running.Wait()
	if times.Load() != 9 {
		t.Errorf("held %d times", times.Load())
	}
}

// A lock is kept for as long as it is held. When its proxy is gone another one gets it,
// and what the first one says of it later changes nothing.
func TestLockEndsWithItsProxyOnly(t *testing.T) {
	t.Parallel()
	url, ctx := newBus(t), testkit.Context(t)
	first, second := openTest(t, natstest.Conn(t, url)), openTest(t, natstest.Conn(t, url))
	for _, s := range []*storage{first, second} {
		s.renewEvery, s.staleAfter = 10*time.Millisecond, 300*time.Millisecond
	}
	for !lockChangesHands(ctx, t, first, second) {
		t.Log("this machine stood still for so long that the lock was given up; once more")
	}
	if err := first.Unlock(ctx, "x"); err != nil {
		t.Error(err)
	}
	if _, err := second.kv.Get(ctx, "locks/x"); err != nil {
		t.Error("the one who was gone gave back another's lock: ", err)
	}
	if err := second.Unlock(ctx, "x"); err != nil {
		t.Error(err)
	}
	if err := second.Unlock(ctx, "x"); err == nil {
		t.Error("a lock that is not held is given back")
	}
}

// lockChangesHands has first keep a lock for twice as long as second waits for a stale one,
// and be gone then. What is stale is told by when the server took each revision in. It
// says false when first was kept from keeping the lock.
func lockChangesHands(ctx context.Context, t *testing.T, first, second *storage) bool {
	t.Helper()
	if err := first.Lock(ctx, "x"); err != nil {
		t.Fatal(err)
	}
	watch, err := first.kv.Watch(ctx, "locks/x")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = watch.Stop() }()
	got := make(chan error, 1)
	go func() { got <- second.Lock(ctx, "x") }()
	first.mu.Lock()
	l := first.locks["x"]
	first.mu.Unlock()
	var since, last time.Time
	for gone := false; ; {
		entry := testkit.Receive(t, watch.Updates(), "the lock, written anew")
		switch {
		case entry == nil: // all that was before
		case string(entry.Value()) == string(l.mark):
			if last = entry.Created(); since.IsZero() {
				since = last
			}
			if !gone && last.Sub(since) > 2*second.staleAfter {
				gone = true
				l.release() // it is kept no more, as when its process is killed
				<-l.released
			}
		default:
			if stale := entry.Created().Sub(last); stale < second.staleAfter {
				t.Fatal("a lock that is kept was taken after ", stale)
			}
			if err := testkit.Receive(t, got, "who waits to have the lock"); err != nil {
				t.Fatal(err)
			}
			if !gone {
				_ = first.Unlock(ctx, "x")
				_ = second.Unlock(ctx, "x")
			}
			return gone
		}
	}
}

// A lock outlives a restart of NATS, and who waits gets it after.
func TestLockOutlivesARestartOfNATS(t *testing.T) {
	t.Parallel()
	server, ctx := natstest.Own(t), testkit.Context(t)
	makeStreams(t, server.URL())
	conns := []*nats.Conn{natstest.Conn(t, server.URL()), natstest.Conn(t, server.URL())}
	first, second := openTest(t, conns[0]), openTest(t, conns[1])
	first.renewEvery = 50 * time.Millisecond
	second.try = lockTry // what the restart swallows is said again
	if err := first.Lock(ctx, "x"); err != nil {
		t.Fatal(err)
	}
	got := make(chan error, 1)
	go func() { got <- second.Lock(ctx, "x") }()
	server.Restart()
	for _, nc := range conns {
		testkit.Eventually(t, "the bus is back", func() bool { return nc.Stats().Reconnects > 0 && nc.IsConnected() })
	}
	if err := first.Store(ctx, "y", nil); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-got:
		t.Fatal("a lock that is held was taken: ", err)
	default:
	}
	if err := first.Unlock(ctx, "x"); err != nil {
		t.Fatal(err)
	}
	if err := testkit.Receive(t, got, "who waits to have the lock"); err != nil {
		t.Error(err)
	}
	_ = second.Unlock(ctx, "x")
}

// A lock is given back also when the answer to the last word about it was lost.
func TestLockIsGivenBackAfterALostAnswer(t *testing.T) {
	t.Parallel()
	s, ctx := openTest(t, natstest.Conn(t, newBus(t))), testkit.Context(t)
	if err := s.Lock(ctx, "x"); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	l := s.locks["x"]
	s.mu.Unlock()
	if _, err := s.kv.Update(ctx, l.key, l.mark, l.revision); err != nil {
		t.Fatal(err)
	}
	if err := s.Unlock(ctx, "x"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.kv.Get(ctx, "locks/x"); !errors.Is(err, jetstream.ErrKeyNotFound) {
		t.Error("the lock is still there: ", err)
	}
}
