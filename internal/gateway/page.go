package gateway

import (
	"bytes"
	"embed"
	"html/template"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/jetway-project/jetway/messages"
)

//go:embed page
var pageFiles embed.FS

var pageTemplate = template.Must(template.New("page.html").Funcs(template.FuncMap{
	"ago": func(ms int64) string { return (time.Duration(ms) * time.Millisecond).Round(time.Second).String() },
}).ParseFS(pageFiles, "page/page.html"))

// pagePolicy lets the page load its own script and style, ask its own gateway, and nothing else.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// pageData is what the page is made of.
type pageData struct {
	// SignedIn says that there is a token with the scope read, or none is asked for; Token that one is asked for.
	SignedIn, Token bool
	Refused         string
	Name            string
	Operate, Shared bool
	Version         string
	Drones          []messages.DroneInfo
	Backends        []messages.BackendInfo
	Failed          string
}

// page is for operators: what runs where, and what becomes of it.
func (c *call) page() (any, error) {
	data := pageData{Token: c.g.cfg.TokensFile != "", Version: c.g.cfg.Version, SignedIn: slices.Contains(c.who.scopes, ScopeRead)}
	if c.g.cfg.ForwardAuth != "" {
		if err := c.forward(); err != nil {
			return nil, err
		}
		data.SignedIn = true
	}
	data.Name, data.Operate, data.Shared = c.who.name, slices.Contains(c.who.scopes, ScopeOperate), c.who.namespaces == nil
	if data.SignedIn {
		// The script lists the rest, and goes on from there.
		resp, err := ask[messages.BackendsResponse](c, messages.SubjectBackends, messages.BackendsRequest{Page: messages.Page{Limit: 50}})
		if err == nil && data.Shared {
			var drones messages.DronesResponse
			drones, err = ask[messages.DronesResponse](c, messages.SubjectDrones, messages.DronesRequest{Page: messages.Page{Limit: messages.MaxPage}})
			data.Drones = drones.Drones
		}
		if err != nil {
			data.Failed = err.Error()
		}
		for _, b := range resp.Backends {
			if c.who.sees(b.Key.Namespace) {
				data.Backends = append(data.Backends, b)
			}
		}
	}
	c.show(http.StatusOK, data)
	return nil, handledError{}
}

// connects counts those that this gateway has answered, for the page.
type connects struct {
	mu      sync.Mutex
	all     uint64
	refused map[messages.Kind]uint64
}

func (n *connects) answered(kind messages.Kind) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all++
	if kind != "" {
		n.refused[kind]++
	}
}

// counts gives what has been counted since this gateway runs: the page asks now and then, and shows what was added.
func (c *call) counts() (any, error) {
	n := &c.g.connects
	n.mu.Lock()
	defer n.mu.Unlock()
	return struct {
		Gateway  string                   `json:"gateway"`
		Since    time.Time                `json:"since"`
		Connects uint64                   `json:"connects"`
		Refused  map[messages.Kind]uint64 `json:"refused"`
	}{c.g.cfg.Name, c.g.began, n.all, maps.Clone(n.refused)}, nil
}

func (c *call) show(status int, data pageData) {
	var out bytes.Buffer
	if err := pageTemplate.Execute(&out, data); err != nil {
		c.fail(err)
		return
	}
	h := c.w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", pagePolicy)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("X-Frame-Options", "DENY")
	c.write(status, out.Bytes())
}

// asset is the page's script or style.
func (c *call) asset() (any, error) {
	data, err := pageFiles.ReadFile("page" + c.route.path)
	if err != nil {
		return nil, err
	}
	kind := "text/javascript; charset=utf-8"
	if c.route.path == "/page.css" {
		kind = "text/css; charset=utf-8"
	}
	c.w.Header().Set("Content-Type", kind)
	c.w.Header().Set("Cache-Control", "no-cache")
	c.write(http.StatusOK, data)
	return nil, handledError{}
}

// login keeps a token in a cookie that no script reads and no other site has sent.
func (c *call) login() (any, error) {
	form, err := url.ParseQuery(string(c.body))
	if err != nil {
		return nil, messages.Errorf(messages.BadRequest, "the form cannot be read: %v", err)
	}
	token := form.Get("token")
	var known *who
	if tokens := c.g.tokens.Load(); tokens != nil {
		known = (*tokens)[hashOf(token)]
	}
	if known == nil || !slices.Contains(known.scopes, ScopeRead) {
		reason := "This token is not known."
		if known != nil {
			reason = "This token has not the scope read."
		}
		c.show(http.StatusForbidden, pageData{Token: true, Refused: reason, Version: c.g.cfg.Version})
		return nil, handledError{}
	}
	c.setCookie(token, 12*time.Hour)
	return nil, handledError{}
}

func (c *call) logout() (any, error) {
	c.setCookie("", -time.Second)
	return nil, handledError{}
}

func (c *call) setCookie(value string, life time.Duration) {
	http.SetCookie(c.w, &http.Cookie{ //nolint:gosec // Secure wherever it is reached by https
		Name: cookieName, Value: value, Path: "/", MaxAge: int(life.Seconds()), HttpOnly: true, SameSite: http.SameSiteStrictMode,
		Secure: c.g.cfg.TLS != nil || c.r.Header.Get("X-Forwarded-Proto") == "https",
	})
	c.w.Header().Set("Location", "/")
	c.write(http.StatusSeeOther, nil)
}
