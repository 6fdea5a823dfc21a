package proxy

import (
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// A scan asks next to nothing of the workers, and what is known goes on working.
func TestScanOfRandomTokensIsHeldOff(t *testing.T) {
	const clients = 16
	tokens := testkit.Sized(t, 800, 2_000)
	w := newWorld(t)
	known := token("known")
	w.leads(known, "be-a", echo)
	equal(t, "known before", w.get("/"+known+"/").status, http.StatusOK)
	w.worker.asks()
	start := time.Now()
	var all sync.WaitGroup
	var limited atomic.Int64
	for c := range clients {
		all.Go(func() {
			for i := c; i < tokens; i += clients {
				got := w.get("/" + token(strconv.Itoa(i)) + "/")
				switch got.status {
				case http.StatusGone:
				case http.StatusTooManyRequests:
					limited.Add(1)
					if got.header.Get("Retry-After") == "" {
						t.Error("429 without Retry-After")
					}
				default:
					t.Errorf("status %d", got.status)
				}
			}
		})
	}
	all.Wait()
	most := strangerBurst + clients + int(time.Since(start).Seconds()*strangerRate) + 1
	if limited.Load() == 0 && most < tokens {
		t.Errorf("none of %d tokens was too many", tokens)
	}
	if asked := w.worker.asks(); asked > most {
		t.Errorf("%d questions for %d tokens, want %d at most", asked, tokens, most)
	}
	equal(t, "known after", w.get("/"+known+"/").status, http.StatusOK)
	if held := len(w.proxy.routes.unknown.until); held > unknownKept {
		t.Errorf("%d unknown tokens are remembered", held)
	}
}

func TestUnknownTokensAreRememberedForAMoment(t *testing.T) {
	w := newWorld(t)
	for range 50 {
		equal(t, "status", w.get("/"+token("none")+"/").status, http.StatusGone)
	}
	equal(t, "questions", w.worker.asks(), 1)

	now := time.Now()
	u := newUnknown(3, time.Minute)
	for i := range 5 {
		u.add(fmt.Sprint(i), now)
		u.add(fmt.Sprint(i), now)
	}
	for i, want := range []bool{false, false, true, true, true} {
		equal(t, fmt.Sprint(i), u.has(fmt.Sprint(i), now), want)
	}
	equal(t, "kept", len(u.until), 3)
	equal(t, "4 later", u.has("4", now.Add(time.Minute)), false)
}

// Tokens that lead somewhere cost their clients nothing, however many share an address.
func TestProperTokensAreNotLimited(t *testing.T) {
	w := newWorld(t)
	address := backend(t, echo)
	for i := range testkit.Sized(t, strangerBurst+50, 3*strangerBurst) {
		tok := token(fmt.Sprint("proper", i))
		w.worker.route(tok, ready("be-a", address))
		equal(t, "status", w.get("/"+tok+"/").status, http.StatusOK)
	}
}

// Whoever shares an address asks for many tokens at once after a proxy's start, or when NATS is back: none of
// those that lead somewhere is refused, for only answers are charged.
func TestProperTokensAtOnceAreNotLimited(t *testing.T) {
	w := newWorld(t)
	address := backend(t, echo)
	links := testkit.Sized(t, 2*strangerBurst, 8*strangerBurst)
	for i := range links {
		w.worker.route(token(fmt.Sprint("proper", i)), ready("be-a", address))
	}
	for _, when := range []string{"at the start", "after a gap"} {
		release := w.worker.block()
		var all sync.WaitGroup
		for i := range links {
			all.Go(func() { equal(t, "status "+when, w.get("/"+token(fmt.Sprint("proper", i))+"/").status, http.StatusOK) })
		}
		testkit.Eventually(t, "all to be asked for", func() bool {
			w.proxy.routes.mu.RLock()
			defer w.proxy.routes.mu.RUnlock()
			return len(w.proxy.routes.asking) == links
		})
		release()
		all.Wait()
		w.proxy.BusGap()
	}
	equal(t, "clients that are counted", len(w.proxy.strangers.clients), 0)
}

// I8: however many clients try, what is kept of them is bounded.
func TestStrangersAreBounded(t *testing.T) {
	s, now := newStrangers(), time.Now()
	client := func(i int) netip.Addr {
		return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
	}
	admitted := 0
	nowhere := func(client netip.Addr, now time.Time) {
		if s.enter(client, now) == nil {
			admitted++
			s.leave(client, now, true)
		}
	}
	for i := range 2 * strangersKept {
		nowhere(client(i), now)
	}
	equal(t, "clients kept", len(s.clients), strangersKept)
	equal(t, "admitted: each, and the others together", admitted, strangersKept+strangerBurst)
	// Those who have their whole allowance again make room.
	later := now.Add(time.Minute)
	for i := range 100 {
		equal(t, "a new one later", s.enter(client(3*strangersKept+i), later), nil)
	}
	if len(s.clients) > strangersKept {
		t.Errorf("%d clients are kept", len(s.clients))
	}
	for i := range 100 {
		s.leave(client(3*strangersKept+i), later, false)
	}
	if s.clients[client(3*strangersKept)] != nil {
		t.Error("who has all of it is still kept")
	}
	for i := range 2 * clientQuestions {
		want := error(nil)
		if i >= clientQuestions {
			want = errHurry
		}
		equal(t, "one more question at once", s.enter(client(0), later), want)
	}
}

func TestClientsAreCountedByAddress(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.1:5": "192.0.2.1", "[::ffff:192.0.2.1]:5": "192.0.2.1", "[2001:db8:1:2:3::4]:5": "2001:db8:1:2::",
		"[fe80::1%eth0]:5": "fe80::", "@": "invalid IP",
	} {
		equal(t, remote, new(Proxy).clientOf(&http.Request{RemoteAddr: remote}).String(), want)
	}
}

// I8: questions that nobody answers do not pile up.
func TestTooManyQuestionsAreRefused(t *testing.T) {
	w := newWorld(t)
	s := w.proxy.routes
	s.mu.Lock()
	for i := range questions {
		s.asking[fmt.Sprint(i)] = &question{answered: make(chan struct{})}
	}
	s.mu.Unlock()
	got := w.get("/" + token("a") + "/")
	equal(t, "status", got.status, http.StatusServiceUnavailable)
	equal(t, "Retry-After", got.header.Get("Retry-After"), "1")
	equal(t, "questions", w.worker.asks(), 0)
	_, err := w.proxy.find(t.Context(), token("b"))
	equal(t, "kind", messages.KindOf(err), messages.Overloaded)
	s.mu.Lock()
	clear(s.asking)
	s.mu.Unlock()
}
