package main

import (
	_ "embed"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/coder/websocket"
)

//go:embed page.html
var page []byte

// handler serves the page, its WebSocket and /info. All URLs in the page are
// relative, so that it works below the proxy's /<token>/.
func (r *room) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", servePage) // GET answers HEAD, too
	mux.HandleFunc("GET /info", r.serveInfo)
	mux.HandleFunc("GET /ws", r.serveSocket)
	return withoutStaticToken(mux)
}

// withoutStaticToken removes a leading /s.…: the proxy strips dynamic tokens but
// passes static ones on, because the backend may know its own.
func withoutStaticToken(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if strings.HasPrefix(q.URL.Path, "/s.") {
			token, _, deeper := strings.Cut(q.URL.Path[1:], "/")
			if !deeper { // relative URLs need the slash
				http.Redirect(w, q, token+"/", http.StatusTemporaryRedirect)
				return
			}
			http.StripPrefix("/"+token, next).ServeHTTP(w, q)
			return
		}
		next.ServeHTTP(w, q)
	})
}

func servePage(w http.ResponseWriter, _ *http.Request) {
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Cache-Control", "no-store")      // the next room below this URL may be another version
	header.Set("Referrer-Policy", "no-referrer") // the URL holds the token
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Content-Security-Policy",
		"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self' ws: wss:; img-src data:; base-uri 'none'; form-action 'none'")
	_, _ = w.Write(page)
}

func (r *room) serveInfo(w http.ResponseWriter, _ *http.Request) {
	r.mu.Lock()
	about := r.about()
	r.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(about)
}

func (r *room) serveSocket(w http.ResponseWriter, q *http.Request) {
	conn, err := websocket.Accept(w, q, &websocket.AcceptOptions{
		// Any Origin: the proxy in front has checked the token in the URL, and
		// there are no cookies here that another site could misuse.
		InsecureSkipVerify: true,
	})
	if err != nil {
		return // Accept has answered
	}
	defer conn.CloseNow()
	conn.SetReadLimit(maxMessage)
	c := newClient(conn, you{
		Username: q.Header.Get("x-verified-username"),
		Path:     q.Header.Get("x-verified-path"),
		UserData: q.Header.Get("x-verified-user-data"),
	})
	if !r.enter(c) {
		conn.Close(websocket.StatusTryAgainLater, "the room is full or closing")
		return
	}
	why := c.serve(q.Context(), r)
	r.leave(c, why)
}
