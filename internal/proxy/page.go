package proxy

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// refusal is an answer that the proxy gives by itself.
type refusal struct {
	status int
	reason string // a sentence for people
	detail string // what somebody else has said of it: for people, too
	// again is in how long asking once more is worth it, which a browser's page does by itself; 0: it does not, and who asks is told a second.
	again time.Duration
	route *route // where known
	err   error  // for the log only
}

// unfound is why a route that may be there is not used.
const unfound = "Cannot find out where this link leads just now. Try again in a moment."

// noAddress is why nobody can be led to a backend that runs.
const noAddress = "This session runs, but it has no address at which it could be visited: the drone that runs it reported none."

// The refusals that need no more words.
var (
	gone = refusal{
		status: http.StatusGone,
		reason: "This link leads nowhere (any more): it has expired or was revoked, or its session has ended.",
	}
	stopping = refusal{status: http.StatusServiceUnavailable, reason: "This proxy is shutting down. Try again in a moment."}
)

var pageTemplate = template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
{{if .Again}}<meta http-equiv="refresh" content="{{.Again}}">
{{end}}<title>{{.Status}} {{.Title}}</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:36em;margin:15vh auto;padding:0 1em}small{color:#767676}pre{white-space:pre-wrap;overflow-wrap:anywhere;color:#555;font-size:.85em}@media(prefers-color-scheme:dark){html{color-scheme:dark}small,pre{color:#999}}</style>
<h1>{{.Title}}</h1>
<p>{{.Message}}
{{with .Detail}}<pre>{{.}}</pre>
{{end}}{{if .Again}}<p role="status">This page tries again by itself in <span id="in">{{.Again}}</span> s.
{{end}}<p><small>{{.Status}} · {{.ID}}</small>
{{if .Again}}<script>` + countdown + `</script>
{{end}}</html>
`))

// countdown shows how the time goes by; who reloads the page is the browser, also where it runs no scripts.
const countdown = `var s=document.getElementById("in"),n=+s.textContent;setInterval(function(){if(n>0)s.textContent=--n},1000)`

// pagePolicy lets the page do what it does, and nothing else.
var pagePolicy = func() string {
	sum := sha256.Sum256([]byte(countdown))
	return "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; script-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}()

type page struct {
	ID      string `json:"id"`
	Status  int    `json:"status"`
	Title   string `json:"-"`
	Message string `json:"message"`
	Detail  string `json:"detail,omitempty"`
	// Again is in how many seconds the page is loaded anew; 0: it is not.
	Again int64 `json:"-"`
	// RetryAfterMS is in how long asking again is worth it; 0: nobody knows.
	RetryAfterMS int64 `json:"retry_after_ms,omitempty"`
}

// preflight says that a browser asks whether a page may send something to another origin.
func preflight(r *http.Request) bool {
	return r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != ""
}

// refuse answers with a small page, in JSON for who asks for that and as plain
// text for who does not ask for HTML. The id on it is in the log line too. A preflight is let pass: it has no
// cookie and no bearer, and where it fails the page is not told why. The request that follows is refused.
func (p *Proxy) refuse(v *visit, why refusal) {
	w, r := v.w, v.r
	if preflight(r) {
		v.status = http.StatusNoContent
		p.endUnread(v)
		setGeneral(w.Header())
		w.WriteHeader(v.status)
		return
	}
	pg := page{ID: strings.ToLower(rand.Text()[:12]), Status: why.status, Title: http.StatusText(why.status), Message: why.reason, Detail: why.detail, RetryAfterMS: why.again.Milliseconds()}
	seconds := int64((why.again + time.Second - 1) / time.Second)
	if r.Method == http.MethodGet {
		pg.Again = seconds // a form is not to be sent once more
	}
	v.status, v.refused = why.status, pg.ID
	p.logRefusal(r, why, pg.ID)

	p.endUnread(v)
	h := w.Header()
	setGeneral(h)
	h.Set("Cache-Control", "no-store") // a 410 may be kept for good otherwise
	h.Set("X-Content-Type-Options", "nosniff")
	if why.route != nil {
		h.Set(headerBackendID, why.route.backend)
		v.route, v.backend = why.route, why.route.backend
	}
	switch why.status {
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		h.Set("Retry-After", strconv.FormatInt(max(seconds, 1), 10))
	}
	body := new(bytes.Buffer)
	switch accept := strings.ToLower(strings.Join(r.Header["Accept"], ",")); {
	case strings.Contains(accept, "text/html"):
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Security-Policy", pagePolicy)
		_ = pageTemplate.Execute(body, pg) // nothing in it fails
	case strings.Contains(accept, "json"):
		h.Set("Content-Type", "application/json")
		_ = json.NewEncoder(body).Encode(pg)
	default:
		h.Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = fmt.Fprintf(body, "%d %s\n%s\n", pg.Status, pg.Title, pg.Message)
		if pg.Detail != "" {
			_, _ = fmt.Fprintln(body, pg.Detail)
		}
		_, _ = fmt.Fprintln(body, pg.ID)
	}
	h.Set("Content-Length", strconv.Itoa(body.Len()))
	w.WriteHeader(why.status)
	_, _ = body.WriteTo(w) // the client may be gone
}

// endUnread ends, after the answer that is to come, the connection of a request whose body nobody has read: it would
// otherwise be waited for, before the answer and for as long as the client likes.
func (p *Proxy) endUnread(v *visit) {
	if v.uploading || v.r.ProtoMajor != 1 || v.r.ContentLength == 0 {
		return
	}
	v.w.Header().Set("Connection", "close")
	_ = http.NewResponseController(v.w).SetReadDeadline(time.Now().Add(p.cfg.waits.linger))
}

// logRefusal leaves the path out: it holds the token.
func (p *Proxy) logRefusal(r *http.Request, why refusal, id string) {
	level := slog.LevelInfo
	if why.status >= http.StatusInternalServerError {
		level = slog.LevelWarn
	}
	attrs := []slog.Attr{
		slog.String("id", id), slog.Int("status", why.status), slog.String("reason", why.reason),
		slog.String("method", r.Method), slog.String("host", r.Host), slog.String("client", p.originOf(r).client),
	}
	if why.route != nil {
		attrs = append(attrs, slog.String("backend_id", why.route.backend))
	}
	if why.err != nil {
		attrs = append(attrs, slog.Any("err", why.err))
	}
	p.log.LogAttrs(r.Context(), level, "request refused", attrs...)
}
