package proxy

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/boottime"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// later is a clock that a test sets forward, as a proxy that was stopped, or a machine that was suspended, sees it.
type later struct{ by atomic.Int64 }

func (l *later) clock() time.Duration { return boottime.Now() + time.Duration(l.by.Load()) }
func (l *later) pass(d time.Duration) { l.by.Add(int64(d)) }

// newTrustWorld is a world whose clock a test sets.
func newTrustWorld(t *testing.T, change ...func(*Config)) (*world, *later) {
	t.Helper()
	time := &later{}
	return newWorld(t, append(change, func(c *Config) { c.clock, c.RouteTrust = time.clock, trust })...), time
}

const trust = time.Hour // only what is set forward counts

// says has a ready backend say something.
func says(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprint(w, text, " ", r.Header.Get(headerUsername), r.Header.Get(headerSecret))
	}
}

// address is a listener's, whose backends come and go.
type address struct {
	mu      sync.Mutex
	handler http.HandlerFunc
}

func (a *address) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	handler := a.handler
	a.mu.Unlock()
	handler(w, r)
}

func (a *address) goesTo(handler http.HandlerFunc) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.handler = handler
}

// Never the wrong place: a proxy that hears nothing any more does not lead a link to whoever has got the ended
// backend's port since, and tells nobody a stranger's name, data and secret.
func TestLinkIsNotLedToWhoGotThePort(t *testing.T) {
	w, time := newTrustWorld(t, func(c *Config) { c.LookupTimeout = 50 * time.Millisecond }) // which is to run out
	port := &address{}
	port.goesTo(says("a's page for"))
	rt := ready("be-a", backend(t, port.ServeHTTP))
	rt.User, rt.SecretToken = "ada", "secret"
	links := []string{token("a"), token("revoked")}
	for _, link := range links {
		w.worker.route(link, rt)
		testkit.Eventually(t, "a's link to lead there", func() bool { return w.get("/"+link+"/").body == "a's page for adasecret" })
	}

	w.link.Stall() // nothing is closed, nothing comes
	w.worker.reaches("be-a", messages.Terminated, "")
	w.worker.forget(links[0])
	w.worker.forget(links[1])
	equal(t, "a's link a moment later", w.get("/"+links[0]+"/").status, http.StatusOK)
	time.pass(trust)
	port.goesTo(says("b's page for"))
	for _, link := range links {
		got := w.get("/" + link + "/")
		equal(t, "status without a word", got.status, http.StatusServiceUnavailable)
		equal(t, "Retry-After", got.header.Get("Retry-After"), "1")
	}
	w.link.Heal()
	for _, link := range links {
		testkit.Eventually(t, "the workers' word", func() bool {
			got := w.get("/" + link + "/")
			if got.status == http.StatusOK {
				t.Fatalf("a's link gives %q", got.body)
			}
			return got.status == http.StatusGone
		})
	}
}

// Never the wrong place: also when the proxy is stopped after it has looked at the route, and before it has
// connected.
func TestProxyThatIsStoppedInMidRequestDoesNotLeadItAstray(t *testing.T) {
	w, time := newTrustWorld(t)
	tok := token("a")
	port := &address{}
	port.goesTo(says("a's page for"))
	w.worker.route(tok, ready("be-a", backend(t, port.ServeHTTP)))
	w.proxy.upstream.mu.Lock()
	w.proxy.upstream.dialer.ControlContext = func(context.Context, string, string, syscall.RawConn) error {
		time.pass(trust)
		port.goesTo(says("b's page for"))
		return nil
	}
	w.proxy.upstream.mu.Unlock()
	got := w.get("/" + tok + "/")
	equal(t, "status", got.status, http.StatusServiceUnavailable)
	w.proxy.upstream.mu.Lock()
	w.proxy.upstream.dialer.ControlContext = nil
	w.proxy.upstream.mu.Unlock()
	equal(t, "asked anew", w.get("/"+tok+"/").status, http.StatusOK)
}

// Never the wrong place: what is left of a backend on a connection that waits for a request is not the next one's.
func TestLeftoverOfAnEndedBackendServesNobody(t *testing.T) {
	w := newWorld(t)
	var last atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprint(rw, r.Context().Value(&last))
	}))
	server.Config.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
		return context.WithValue(ctx, &last, last.Add(1))
	}
	server.Start()
	t.Cleanup(server.Close)
	at := server.Listener.Addr().String()
	w.worker.route(token("a"), ready("be-a", at))
	w.worker.route(token("b"), ready("be-b", at))
	equal(t, "a's connection", w.get("/"+token("a")+"/").body, "1")
	equal(t, "a's connection again", w.get("/"+token("a")+"/").body, "1")
	equal(t, "b's connection", w.get("/"+token("b")+"/").body, "2")
}

// A link in use never waits for a worker, and its token is asked for while it is used, which is what it slides by.
func TestRouteInUseIsAskedForAnew(t *testing.T) {
	w, clock := newTrustWorld(t)
	tok, short := token("a"), token("short")
	at := backend(t, echo)
	rt := ready("be-a", at)
	rt.ValidForMS = (100 * trust).Milliseconds()
	w.worker.route(tok, rt)
	rt.ValidForMS = (trust / 4).Milliseconds()
	w.worker.route(short, rt)
	for link, step := range map[string]time.Duration{tok: trust / 4, short: trust / 4 / 8} {
		equal(t, "status", w.get("/"+link+"/").status, http.StatusOK)
		equal(t, "the question", testkit.Receive(t, w.worker.asked, "a question"), link)
		for range 4 {
			asked := w.proxy.routes.word(link).asked
			clock.pass(step)
			equal(t, "status", w.get("/"+link+"/").status, http.StatusOK)
			equal(t, "questions", len(w.worker.asked), 0)
			clock.pass(step)
			release := w.worker.block()
			for range 3 {
				equal(t, "status while it is asked for", w.get("/"+link+"/").status, http.StatusOK)
			}
			release()
			equal(t, "the question", testkit.Receive(t, w.worker.asked, "a question"), link)
			testkit.Eventually(t, "the answer", func() bool { return w.proxy.routes.word(link).asked > asked })
			equal(t, "more questions", len(w.worker.asked), 0)
		}
	}
}

// While Postgres is away workers say so, and what is trusted and used goes on.
func TestRouteInUseOutlivesAnOutageOfPostgres(t *testing.T) {
	w, time := newTrustWorld(t)
	tok := token("a")
	rt := ready("be-a", backend(t, echo))
	rt.ValidForMS = (100 * trust).Milliseconds()
	w.worker.route(tok, rt)
	equal(t, "status", w.get("/"+tok+"/").status, http.StatusOK)
	w.worker.mu.Lock()
	w.worker.away = true
	w.worker.mu.Unlock()
	for range 5 {
		asked := w.proxy.routes.word(tok).asked
		time.pass(trust / 2)
		equal(t, "status without Postgres", w.get("/"+tok+"/").status, http.StatusOK)
		testkit.Eventually(t, "the answer", func() bool { return w.proxy.routes.word(tok).asked > asked })
	}
	time.pass(trust) // what nobody vouched for meanwhile is not trusted again by somebody who cannot tell
	equal(t, "status", w.get("/"+tok+"/").status, http.StatusServiceUnavailable)
}

// Events may have been missed: no route is used before a worker was asked for it, and who knew a token is no stranger.
func TestRoutesAreAskedForAfterAGap(t *testing.T) {
	w := newWorld(t)
	kept, gone := token("kept"), token("gone")
	w.leads(kept, "be-a", echo)
	w.leads(gone, "be-b", echo)
	w.get("/" + kept + "/")
	w.get("/" + gone + "/")
	w.worker.asks()
	for n := 0; w.get("/"+token(fmt.Sprint("wrong", n))+"/").status != http.StatusTooManyRequests; n++ {
	}
	w.worker.forget(gone)
	w.proxy.BusGap()
	equal(t, "gone", w.get("/"+gone+"/").status, http.StatusGone)
	equal(t, "kept", w.get("/"+kept+"/").status, http.StatusOK)
	equal(t, "questions", w.worker.asks() >= 2, true)
}

// An open WebSocket is use: its token slides, also where nobody asks for anything else.
func TestTokenOfAnOpenConnectionSlides(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.waits.slide = time.Millisecond })
	tok, static := token("a"), "s."+token("static")
	at := backend(t, echoSocket)
	rt := ready("be-a", at)
	rt.ValidForMS = 400
	w.worker.route(tok, rt)
	w.worker.route(static, ready("be-a", at))
	open, _ := w.socket("/" + static + "/")
	_ = open
	c, _ := w.socket("/" + tok + "/")
	testkit.Eventually(t, "questions", func() bool { return w.worker.asks() > 0 })
	for range 5 {
		equal(t, "the question", testkit.Receive(t, w.worker.asked, "a question"), tok)
	}
	equal(t, "echo", say(t, c, "hello"), "hello")
}

// word is what is known of a remembered route.
func (s *routes) word(token string) word {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return *s.known[token].word.Load()
}
