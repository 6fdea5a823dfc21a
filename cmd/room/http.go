package main

import (
	_ "embed"
	"encoding/json"
	"net/http"
	"strconv"
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
	mux.HandleFunc("POST /claim", r.serveClaim)
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

// serveClaim tells a room that was started ahead, as a spare, whose it is. It takes the first claim alone: visitors reach this
// path too.
func (r *room) serveClaim(w http.ResponseWriter, q *http.Request) {
	var told struct {
		BackendID    string `json:"backend_id"`
		Key          string `json:"key"`
		Namespace    string `json:"namespace"`
		FencingToken int64  `json:"fencing_token"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, q.Body, maxMessage)).Decode(&told); err != nil || told.BackendID == "" {
		http.Error(w, "want JSON with backend_id, key, namespace and fencing_token", http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.spare {
		http.Error(w, "this room is somebody's already", http.StatusConflict)
		return
	}
	r.spare = false
	r.info.BackendID, r.info.Key, r.info.Namespace = told.BackendID, told.Key, told.Namespace
	r.info.FencingToken = strconv.FormatInt(told.FencingToken, 10)
	r.log.printf("room %s is for key %q from now on", told.BackendID, told.Key)
	w.WriteHeader(http.StatusNoContent)
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
