package proxy_test

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/coder/websocket"

	"github.com/jetway-project/jetway/internal/proxy"
	"github.com/jetway-project/jetway/internal/runtime/fake"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/browsertest"
	"github.com/jetway-project/jetway/messages"
)

// The item 7, over TLS in a real browser: one of two WebSockets of a page waits for a backend that starts, and the other one opens
// meanwhile, and carries messages.
func TestE2EBrowserOpensWebSocketsAtTheSameTime(t *testing.T) {
	t.Parallel()
	certFile, keyFile := testkit.NewAuthority(t).Server()
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	must(t, err)
	s := newStackAt(t, nil, "localhost", func(c *proxy.Config) { c.TLS = &tls.Config{Certificates: []tls.Certificate{cert}} })
	browser := browsertest.New(t)
	slow := s.connect(messages.ConnectRequest{
		SpawnConfig: &messages.SpawnConfig{Executable: fake.Script{PrepareFor: fake.Duration(24 * time.Hour)}.Executable()},
	}).Token
	page := s.leads(httpBackend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			w.Header().Set("Content-Type", "text/html")
			_, _ = fmt.Fprint(w, "<!doctype html><title>two</title>")
			return
		}
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
		if err != nil {
			return
		}
		if kind, said, err := c.Read(r.Context()); err == nil {
			_ = c.Write(r.Context(), kind, append(said, '!'))
		}
		_, _, _ = c.Read(r.Context())
	}))
	tab := showIn(browser, t, "ada", "https://"+s.cluster+page)
	tab.does("open two WebSockets", chromedp.Evaluate[chromedp.Void](fmt.Sprintf(`(() => {
		// Over HTTP/1.1, as a browser goes that has no connection over HTTP/2 yet, the first one is refused before the second one opens.
		const open = () => {
			const slow = new WebSocket("wss://" + location.host + "/%s/"), fast = new WebSocket("wss://" + location.host + %q);
			fast.onopen = () => fast.send("hello");
			fast.onmessage = e => { window.heard = window.heard || slow.readyState === WebSocket.CONNECTING && e.data; };
			slow.onclose = () => { fast.close(); setTimeout(open, 100); };
		};
		open();
	})()`, slow, page)))
	tab.sees(`window.heard === "hello!"`)
}
