package proxy

import (
	"net/http"
	"strings"
	"testing"
)

// answers is a backend that sends the same fields to everybody.
func answers(fields ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(fields); i += 2 {
			w.Header().Add(fields[i], fields[i+1])
		}
	}
}

// The demand of path mode: what a backend says of its own root is put below the token.
func TestPathModePutsTheBackendsRootBelowTheToken(t *testing.T) {
	w := newWorld(t)
	tok, static := token("a"), "s."+token("static")
	for _, tk := range []string{tok, static} {
		for from, to := range map[string]string{
			"/":                               "/" + tk + "/",
			"/login?next=/x#y":                "/" + tk + "/login?next=/x#y",
			"http://jetway.test/login":        "http://jetway.test/" + tk + "/login",
			"http://jetway.test":              "http://jetway.test/" + tk + "/",
			"//jetway.test/login":             "//jetway.test/" + tk + "/login",
			"https://elsewhere.test/login":    "https://elsewhere.test/login",
			"login":                           "login",
			"?page=2":                         "?page=2",
			"/" + tk + "/there":               "/" + tk + "/there",
			"/" + token("another") + "/there": "/" + token("another") + "/there",
		} {
			w.leads(tk, "be-a", answers("Location", from))
			w.proxy.routes.dropBackend("be-a")
			equal(t, from, w.get("/"+tk+"/").header.Get("Location"), to)
		}
		for from, to := range map[string]string{
			"a=1":                                 "a=1",
			"a=1; Path=/; HttpOnly":               "a=1; Path=/" + tk + "/; HttpOnly",
			"a=1;path=/x;Secure":                  "a=1; Path=/" + tk + "/x;Secure",
			"a=1; Path=/" + tk + "/":              "a=1; Path=/" + tk + "/",
			"__Host-a=1; Secure; Path=/":          "__Host-a=1; Secure; Path=/",
			"a=; Path=/; Expires=Thu, 1 Jan 1970": "a=; Path=/" + tk + "/; Expires=Thu, 1 Jan 1970",
		} {
			w.leads(tk, "be-a", answers("Set-Cookie", from, "Set-Cookie", "other=1"))
			w.proxy.routes.dropBackend("be-a")
			equal(t, from, strings.Join(w.get("/" + tk + "/").header["Set-Cookie"], "|"), to+"|other=1")
		}
	}
}

// What is about the whole host is not a single session's to say, and no link to one session reaches another.
func TestPathModeKeepsSessionsApart(t *testing.T) {
	w := newWorld(t)
	tok, own := token("a"), token("own")
	w.leads(tok, "be-a", answers("Service-Worker-Allowed", "/", "Clear-Site-Data", "*"))
	w.leads(own, "be-own", func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Referrer-Policy", "no-referrer")
		tells(rw, r)
	})
	got := w.get("/" + tok + "/").header
	for _, name := range []string{"Service-Worker-Allowed", "Clear-Site-Data"} {
		equal(t, name, got.Get(name), "")
	}
	equal(t, "policy", got.Get("Referrer-Policy"), "strict-origin-when-cross-origin")
	equal(t, "the backend's policy", w.get("/"+own+"/").header.Get("Referrer-Policy"), "no-referrer")
	for referer, want := range map[string]string{
		"http://jetway.test/" + own + "/x":          `["http://jetway.test/` + own + `/x"]`,
		"http://jetway.test/" + tok + "/x":          `[]`,
		"http://a.jetway.test/.jetway/enter/" + tok: `[]`,
		"http://jetway.test/" + tok + "?q":          `[]`,
		"https://app.test/page":                     `["https://app.test/page"]`,
	} {
		equal(t, referer, w.get("/"+own+"/", "Referer", referer).body, `/ cookie=[] authorization=[] referer=`+want+` prefix=["/`+own+`"]`)
	}
	static := "s." + token("static")
	w.leads(static, "be-static", tells)
	equal(t, "a path that is not cut", w.get("/"+static+"/x").body, "/"+static+`/x cookie=[] authorization=[] referer=[] prefix=[]`)
}

func TestPathModePlain(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.PlainPaths = true })
	w.leads(token("a"), "be-a", answers("Location", "/x", "Set-Cookie", "a=1; Path=/", "Service-Worker-Allowed", "/"))
	got := w.get("/" + token("a") + "/").header
	for name, want := range map[string]string{"Location": "/x", "Set-Cookie": "a=1; Path=/", "Service-Worker-Allowed": "/", "Referrer-Policy": ""} {
		equal(t, name, got.Get(name), want)
	}
}
