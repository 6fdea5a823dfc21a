package proxy_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/coder/websocket"

	"github.com/jetway-project/jetway/internal/proxy"
	"github.com/jetway-project/jetway/internal/runtime/fake"
	"github.com/jetway-project/jetway/internal/testkit/browsertest"
	"github.com/jetway-project/jetway/messages"
)

// Two sessions of an application that speaks of / are open in one profile of a real browser, each at an origin of its own: its
// redirects, cookies, service worker, absolute paths and WebSocket are its own, the proxy's cookie is nobody's to see, and
// neither page acts as the other's visitor
// (the demand).
func TestE2EBrowserTwoSessionsWithOriginsOfTheirOwn(t *testing.T) {
	t.Parallel()
	s := newStackAt(t, nil, "rooms.localhost") // of one site, as below a cluster: a.localhost and b.localhost are not
	browser := browsertest.New(t)
	adas := s.originOf("ada", "/")
	ada := showIn(browser, t, "ada", adas)
	bob := openTab(browser, t, "bob", s.originOf("bob", "/"))
	for range 2 {
		for _, p := range []*page{ada, bob} {
			p.sees(`window.app && app.ready === "` + p.who + " " + p.who + " " + p.who + " " + p.who + `"`)
			p.sees(`location.pathname === "/app" && !document.cookie.includes("jetway")`)
			p.does("reload", chromedp.Reload())
		}
	}
	host, _, _ := strings.Cut(strings.TrimPrefix(adas, "http://"), "/")
	bob.does("reach for ada", chromedp.Evaluate[chromedp.Void](fmt.Sprintf(reach, host)))
	bob.sees(`window.tried === 4`)
	ada.does("be there still", chromedp.Evaluate[chromedp.Void](`void fetch("/name").then(r => r.text()).then(name => { window.still = name; })`))
	ada.sees(`window.still === "ada"`)
}

// reach is what a page does that wants to act as its neighbour's visitor, whose cookie the browser sends along.
const reach = `(() => {
	window.tried = 0;
	const at = "://%s/taken/", after = () => { window.tried++; };
	addEventListener("message", e => { if (e.data === "tried") after(); });
	fetch("http" + at + "fetch", {mode: "no-cors", credentials: "include"}).then(after, after);
	const script = document.createElement("script");
	script.onload = script.onerror = after;
	script.src = "http" + at + "script";
	const socket = new WebSocket("ws" + at + "socket");
	socket.onopen = socket.onerror = after;
	const sandbox = document.createElement("iframe");
	sandbox.sandbox = "allow-scripts";
	sandbox.srcdoc = '<script>const s = new WebSocket("ws' + at + 'sandbox"); s.onopen = s.onerror = () => parent.postMessage("tried", "*");</' + 'script>';
	document.documentElement.append(script, sandbox);
})()`

// A page of another site shows a session in a frame.
func TestE2EBrowserSessionInAFrameOfAnotherSite(t *testing.T) {
	t.Parallel()
	s := newStackAt(t, nil, "localhost", func(c *proxy.Config) { c.Embedded = true })
	link := s.originOf("ada", "/app")
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = fmt.Fprintf(w, `<script>addEventListener("message", e => window.framed = e.data)</script><iframe src=%q></iframe>`, link)
	}))
	t.Cleanup(site.Close)
	showIn(browsertest.New(t), t, "ada", site.URL).sees(`window.framed === "ada"`)
}

// originOf starts a session of the application, and gives its link, to a path of it.
func (s *stack) originOf(name, path string) string {
	s.t.Helper()
	app := httptest.NewServer(rootApp(s.t, name))
	s.t.Cleanup(app.Close)
	origin := true
	return s.connect(messages.ConnectRequest{SpawnConfig: &messages.SpawnConfig{
		Executable: fake.Script{Address: app.Listener.Addr().String()}.Executable(), Origin: &origin,
	}}).URL + path
}

// rootApp does what applications do that know of no path before theirs.
func rootApp(t *testing.T, name string) http.Handler {
	t.Helper()
	mux := http.NewServeMux()
	say := func(path, kind, text string) {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			_, _ = w.Write([]byte(text))
		})
	}
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/login", http.StatusFound) })
	mux.HandleFunc("/login", func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "user", Value: name, Path: "/"})
		http.Redirect(w, r, "/app", http.StatusFound)
	})
	say("/app", "text/html", `<!doctype html><script src="/static/app.js"></script>`)
	say("/static/app.js", "text/javascript", `
		window.app = {};
		const text = url => fetch(url).then(r => r.text());
		const socket = () => new Promise((done, fail) => {
			const ws = new WebSocket("ws://" + location.host + "/ws");
			ws.onmessage = e => done(e.data);
			ws.onerror = fail;
		});
		const worker = async () => {
			await navigator.serviceWorker.register("/sw.js");
			await navigator.serviceWorker.ready;
			if (!navigator.serviceWorker.controller)
				await new Promise(done => navigator.serviceWorker.addEventListener("controllerchange", done));
			return text("/by-worker");
		};
		text("/name").then(name => parent.postMessage(name, "*"));
		if (parent === window)
			Promise.all([text("/name"), text("/user"), socket(), worker()]).then(all => app.ready = all.join(" "), e => app.failed = String(e));
	`)
	say("/sw.js", "text/javascript", `
		onactivate = e => e.waitUntil(clients.claim());
		onfetch = e => { if (new URL(e.request.url).pathname === "/by-worker") e.respondWith(new Response("`+name+`")); };
	`)
	say("/name", "text/plain", name)
	mux.HandleFunc("/taken/", func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("a neighbour's page has got to %s at %s", r.URL, name)
	})
	mux.HandleFunc("/user", func(w http.ResponseWriter, r *http.Request) {
		for _, c := range r.CookiesNamed("user") {
			_, _ = w.Write([]byte(c.Value))
		}
	})
	mux.HandleFunc("/ws", func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return // the browser says so
		}
		_ = c.Write(r.Context(), websocket.MessageText, []byte(name))
		_, _, _ = c.Read(r.Context()) // until the page has gone
		_ = c.CloseNow()
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.Header.Get("Cookie"), "jetway") || r.Header.Get("Authorization") != "" {
			t.Errorf("%s sees the session's token at %s", name, r.URL)
		}
		mux.ServeHTTP(w, r)
	})
}

// openTab opens a page in a tab of its own, beside another one in its profile.
func openTab(beside context.Context, t *testing.T, who, url string) *page {
	t.Helper()
	tab, leave := chromedp.NewContext(beside)
	t.Cleanup(leave)
	must(t, chromedp.Do(tab)) // opens the tab, which lives as long as this context
	return showIn(tab, t, who, url)
}

// showIn opens a page in a tab.
func showIn(tab context.Context, t *testing.T, who, url string) *page {
	t.Helper()
	p := &page{t: t, who: who, tab: tab}
	p.does("open "+url, browsertest.Open(url))
	return p
}

// Who joins a session gets the URL of its way, whatever his own request says; and it leads there.
func TestE2EWhoJoinsEntersByTheSessionsOwnHost(t *testing.T) {
	t.Parallel()
	s := newStackAt(t, nil, "localhost")
	backend := newRawBackend(t, response("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"))
	key, yes, no := &messages.Key{Name: "doc"}, true, false
	spawn := func(origin *bool) *messages.SpawnConfig {
		return &messages.SpawnConfig{Executable: fake.Script{Address: backend.address}.Executable(), Origin: origin}
	}
	first := s.connect(messages.ConnectRequest{Key: key, SpawnConfig: spawn(&yes)})
	for _, req := range []messages.ConnectRequest{{Key: key}, {Key: key, SpawnConfig: spawn(&no)}} {
		joined := s.connect(req)
		host := first.Subdomain + "." + s.cluster
		if joined.BackendID != first.BackendID || joined.URL != "http://"+host+messages.EnterPath+joined.Token {
			t.Fatalf("%+v joins %+v", joined, first)
		}
		got := s.send("GET " + messages.EnterPath + joined.Token + " HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n\r\n")
		if got.status != http.StatusSeeOther || got.header.Get("Set-Cookie") != "jetway="+joined.Token+"; Path=/; HttpOnly; SameSite=Lax" {
			t.Fatalf("enter: %d %v", got.status, got.header)
		}
		got = s.send("GET /x HTTP/1.1\r\nHost: " + host + "\r\nCookie: jetway=" + joined.Token + "\r\nConnection: close\r\n\r\n")
		if got.status != http.StatusOK {
			t.Fatalf("with the cookie: %d", got.status)
		}
	}
	other := s.connect(messages.ConnectRequest{SpawnConfig: spawn(&no)})
	if other.URL != "http://"+s.cluster+"/"+other.Token+"/" {
		t.Errorf("path mode: %s", other.URL)
	}
}
