package proxy

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/boottime"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

func TestKnownRoutesAreNotAskedForAgain(t *testing.T) {
	w := newWorld(t)
	tok := token("a")
	w.leads(tok, "be-a", echo)
	for range 10 {
		equal(t, "status", w.get("/"+tok+"/").status, http.StatusOK)
	}
	equal(t, "questions", w.worker.asks(), 1)
}

func TestConcurrentLookupsAreOneQuestion(t *testing.T) {
	w := newWorld(t)
	tok := token("a")
	w.leads(tok, "be-a", echo)
	release := w.worker.block()
	defer release()
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() { equal(t, "status", w.get("/"+tok+"/").status, http.StatusOK) })
	}
	testkit.Receive(t, w.worker.asked, "the question")
	testkit.Eventually(t, "all 100 requests", func() bool { return w.inside() == 100 })
	release()
	all.Wait()
	equal(t, "further questions", w.worker.asks(), 0)
}

func TestFirstAskersLeavingDoesNotSpoilTheAnswer(t *testing.T) {
	w := newWorld(t)
	tok := token("a")
	w.leads(tok, "be-a", echo)
	release := w.worker.block()
	defer release()
	conn := w.dial("GET /" + tok + "/ HTTP/1.1\r\nHost: " + cluster + "\r\n\r\n")
	testkit.Receive(t, w.worker.asked, "the question")
	second := make(chan answer, 1)
	go func() { second <- w.get("/" + tok + "/") }()
	testkit.Eventually(t, "the second", func() bool { return w.inside() == 2 })
	_ = conn.Close()
	testkit.Eventually(t, "the first to leave", func() bool { return w.inside() == 1 })
	release()
	equal(t, "status", testkit.Receive(t, second, "the second").status, http.StatusOK)
	equal(t, "further questions", w.worker.asks(), 0)
}

func TestEndedBackendsRouteIsDropped(t *testing.T) {
	w := newWorld(t)
	one, two, other := token("one"), token("two"), token("other")
	address := backend(t, echo)
	w.worker.route(one, ready("be-a", address))
	w.worker.route(two, ready("be-a", address))
	w.worker.route(other, ready("be-b", address))
	for _, tok := range []string{one, two, other} {
		equal(t, "status before", w.get("/"+tok+"/").status, http.StatusOK)
	}
	w.worker.reaches("be-a", messages.Terminated, "")
	testkit.Eventually(t, "the routes to be dropped", func() bool { return w.known() == 1 })
	equal(t, "one", w.get("/"+one+"/").status, http.StatusGone)
	equal(t, "two", w.get("/"+two+"/").status, http.StatusGone)
	w.worker.asks()
	equal(t, "other", w.get("/"+other+"/").status, http.StatusOK)
	equal(t, "questions for other", w.worker.asks(), 0)
}

func (wk *worker) revoke(id string, user *string, hash string) {
	event := messages.TokenEvent{Type: messages.TypeTokenRevoked, ID: id + ".revoked.1", Time: time.Now(), BackendID: id, User: user, TokenSHA256: hash}
	must(wk.t, wk.nc.Publish(messages.TokenEventSubject(id), messages.Encode(event)))
	must(wk.t, wk.nc.FlushTimeout(testkit.Patience))
}

func TestRevokedTokensRoutesAreDropped(t *testing.T) {
	w := newWorld(t)
	adas, bobs, other := token("ada"), token("bob"), token("other")
	address := backend(t, echo)
	for tok, user := range map[string]string{adas: "ada", bobs: "bob"} {
		r := ready("be-a", address)
		r.User = user
		w.worker.route(tok, r)
	}
	r := ready("be-b", address)
	r.User = "ada"
	w.worker.route(other, r)
	for _, tok := range []string{adas, bobs, other} {
		equal(t, "status before", w.get("/"+tok+"/").status, http.StatusOK)
	}
	w.worker.asks()
	w.worker.forget(adas)
	w.worker.revoke("be-a", new("ada"), "")
	testkit.Eventually(t, "ada's route to be dropped", func() bool { return w.known() == 2 })
	equal(t, "ada", w.get("/"+adas+"/").status, http.StatusGone)
	w.worker.asks()
	equal(t, "bob", w.get("/"+bobs+"/").status, http.StatusOK)
	equal(t, "another backend's", w.get("/"+other+"/").status, http.StatusOK)
	equal(t, "questions", w.worker.asks(), 0)
	sum := sha256.Sum256([]byte(bobs))
	w.worker.forget(bobs)
	w.worker.revoke("be-a", nil, hex.EncodeToString(sum[:]))
	testkit.Eventually(t, "bob's route to be dropped", func() bool { return w.known() == 1 })
	equal(t, "bob", w.get("/"+bobs+"/").status, http.StatusGone)
}

// The answer is from before the revocation, the event overtakes it.
func TestAnswerThatCrossesARevocationIsNotUsed(t *testing.T) {
	w := newWorld(t)
	adas, bobs := token("ada"), token("bob")
	for tok, user := range map[string]string{adas: "ada", bobs: "bob"} {
		rt := ready("be-a", backend(t, echo))
		rt.User = user
		w.worker.route(tok, rt)
	}
	for tok, want := range map[string]int{adas: http.StatusGone, bobs: http.StatusOK} {
		release := w.worker.block()
		got := make(chan answer, 1)
		go func() { got <- w.get("/" + tok + "/") }()
		testkit.Receive(t, w.worker.asked, "the question")
		before := w.proxy.news.mark()
		w.worker.revoke("be-a", new("ada"), "")
		testkit.Eventually(t, "the event", func() bool { return w.proxy.news.mark() > before })
		release()
		equal(t, "status", testkit.Receive(t, got, "the response").status, want)
	}
	equal(t, "known routes", w.known(), 1)
}

// The answer says ready, but the event of the end overtakes it.
func TestAnswerThatCrossesTheEndIsNotRemembered(t *testing.T) {
	w := newWorld(t)
	tok := token("a")
	w.leads(tok, "be-a", echo)
	release := w.worker.block()
	defer release()
	got := make(chan answer, 1)
	go func() { got <- w.get("/" + tok + "/") }()
	testkit.Receive(t, w.worker.asked, "the question")
	w.worker.publish("be-a", messages.Terminated)
	testkit.Eventually(t, "the event", func() bool { return w.proxy.news.mark() == 1 })
	release()
	equal(t, "status", testkit.Receive(t, got, "the response").status, http.StatusGone)
	equal(t, "known routes", w.known(), 0)
}

// It may be from before a revocation that nobody here heard.
func TestAnswerThatCrossesAGapIsAskedForAgain(t *testing.T) {
	w := newWorld(t)
	tok := token("a")
	w.leads(tok, "be-a", echo)
	release := w.worker.block()
	defer release()
	got := make(chan answer, 1)
	go func() { got <- w.get("/" + tok + "/") }()
	testkit.Receive(t, w.worker.asked, "the question")
	w.proxy.BusGap()
	w.worker.forget(tok)
	release()
	equal(t, "status", testkit.Receive(t, got, "the response").status, http.StatusGone)
	equal(t, "known routes", w.known(), 0)
}

func TestTokensRunOut(t *testing.T) {
	w := newWorld(t)
	soon, now, static := token("soon"), token("now"), "s."+token("static")
	address := backend(t, echo)
	rt := ready("be-a", address)
	rt.ValidForMS = 50
	w.worker.route(soon, rt)
	equal(t, "soon", w.get("/"+soon+"/").status, http.StatusOK)
	w.worker.forget(soon)
	testkit.Eventually(t, "the token to run out", func() bool { return w.get("/"+soon+"/").status == http.StatusGone })

	rt.ValidForMS = 0 // less than a millisecond for a dynamic token, for ever for a static one
	w.worker.route(now, rt)
	w.worker.route(static, rt)
	w.worker.asks()
	for range 3 {
		equal(t, "now", w.get("/"+now+"/").status, http.StatusOK)
	}
	equal(t, "questions for now", w.worker.asks(), 3)
	for range 3 {
		equal(t, "static", w.get("/"+static+"/").status, http.StatusOK)
	}
	equal(t, "questions for static", w.worker.asks(), 1)
}

func TestUnknownRoutesNeedAWorkerKnownOnesDoNot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	known, unknown := token("known"), token("unknown")
	address := backend(t, echo)
	w.worker.route(known, ready("be-a", address))
	w.worker.route(unknown, ready("be-b", address))
	testkit.Eventually(t, "/ready to be 200 with all there", func() bool { return w.get("/ready").status == http.StatusOK })
	equal(t, "known", w.get("/"+known+"/").status, http.StatusOK)

	w.link.Cut()
	testkit.Eventually(t, "the connection to break", func() bool { return !w.proxy.nc.IsConnected() })
	equal(t, "known without NATS", w.get("/"+known+"/").status, http.StatusOK)
	got := w.get("/" + unknown + "/")
	equal(t, "unknown without NATS", got.status, http.StatusServiceUnavailable)
	equal(t, "Retry-After", got.header.Get("Retry-After"), "1")
	testkit.Eventually(t, "/ready to be 503", func() bool { return w.get("/ready").status == http.StatusServiceUnavailable })

	w.link.Heal()
	testkit.Eventually(t, "the unknown to be found", func() bool { return w.get("/"+unknown+"/").status == http.StatusOK })
	testkit.Eventually(t, "/ready to be 200", func() bool { return w.get("/ready").status == http.StatusOK })
	testkit.Eventually(t, "the known to be asked for after the gap", func() bool {
		equal(t, "known after the gap", w.get("/"+known+"/").status, http.StatusOK)
		asked := false
		for len(w.worker.asked) > 0 {
			asked = <-w.worker.asked == known || asked
		}
		return asked
	})

	w.worker.nc.Close()
	equal(t, "known without workers", w.get("/"+known+"/").status, http.StatusOK)
	equal(t, "unknown without workers", w.get("/"+token("new")+"/").status, http.StatusServiceUnavailable)
	testkit.Eventually(t, "/ready to be 503 without workers", func() bool { return w.get("/ready").status == http.StatusServiceUnavailable })
}

// I8: the remembered routes stay within their bound.
func TestRoutesAreBounded(t *testing.T) {
	s := newRoutes(10*(routeOverhead+1024), time.Hour, boottime.Now)
	for i := range 1000 {
		r := newRoute(token(fmt.Sprint(i)), boottime.Now(), 0, &messages.RouteResponse{
			BackendID: fmt.Sprintf("be-%d", i%7), Status: messages.Ready, Address: "a:1", Cluster: cluster, ValidForMS: 1e6,
			Auth: []byte(`{"a":"` + strings.Repeat("x", i) + `"}`),
		})
		s.mu.Lock()
		s.putLocked(r)
		s.putLocked(r)
		s.mu.Unlock()
		sum, indexed := 0, 0
		for _, k := range s.known {
			sum += k.size()
		}
		for _, tokens := range s.byBackend {
			indexed += len(tokens)
		}
		if sum != s.bytes || s.bytes > s.limit || indexed != len(s.known) || len(s.known) == 0 {
			t.Fatalf("after %d: %d bytes counted, %d there, %d allowed; %d known, %d indexed", i, s.bytes, sum, s.limit, len(s.known), indexed)
		}
	}
	for i := range 7 {
		s.dropBackend(fmt.Sprintf("be-%d", i))
	}
	equal(t, "bytes at the end", s.bytes, 0)
	equal(t, "routes at the end", len(s.known)+len(s.byBackend), 0)
}

func TestNewsTellsWhatItMissed(t *testing.T) {
	n := newNews()
	mark := n.mark()
	n.note("be-a", messages.Waiting)
	n.note("be-a", messages.Ready)
	n.note("be-b", messages.Terminated)
	n.note("be-a", messages.Terminating)
	asked := &route{token: token("a"), backend: "be-a", user: "ada", askedMark: mark}
	status, revoked, complete := n.since(asked)
	equal(t, "status", status, messages.Terminating)
	equal(t, "complete", complete, true)
	equal(t, "revoked", revoked, false)
	n.noteRevoked(&messages.TokenEvent{BackendID: "be-a", User: new("bob")})
	_, revoked, _ = n.since(asked)
	equal(t, "revoked with bob's", revoked, false)
	n.noteRevoked(&messages.TokenEvent{BackendID: "be-a", User: new("ada")})
	_, revoked, _ = n.since(asked)
	equal(t, "revoked with ada's", revoked, true)
	for range newsKept - 5 {
		n.note("be-c", messages.Ready)
	}
	_, _, complete = n.since(asked)
	equal(t, "complete when full", complete, true)
	n.note("be-c", messages.Ready)
	_, _, complete = n.since(asked)
	equal(t, "complete when over", complete, false)

	mark = n.mark()
	woken, leave := n.watch(mark, "be-a")
	_, leaveToo := n.watch(mark, "be-a")
	leaveToo()
	n.gap()
	testkit.Receive(t, woken, "the gap to wake")
	leave()
	woken, leave = n.watch(mark, "be-a")
	testkit.Receive(t, woken, "a mark before the gap to wake at once")
	leave()
	_, leave = n.watch(n.mark(), "be-a")
	leave()
	equal(t, "watches left", len(n.waiting), 0)
}
