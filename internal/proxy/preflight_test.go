package proxy

import (
	"net/http"
	"testing"
)

// A page of another origin reads why its request is refused: the question that its browser asks before is not.
func TestPreflightsAreNotRefused(t *testing.T) {
	w := newWorld(t)
	w.leads(token("a"), "be-a", echo)
	w.worker.route(token("gone"), ready("be-gone", "127.0.0.1:1"))
	for path, refused := range map[string]int{
		"/" + token("dead") + "/": http.StatusGone, "/" + token("gone") + "/": http.StatusBadGateway, "/x": http.StatusUnauthorized,
	} {
		ask := func(method string, header ...string) answer {
			req, err := http.NewRequestWithContext(t.Context(), method, "http://"+cluster+path, nil)
			must(t, err)
			return w.do(req, header...)
		}
		pre := ask(http.MethodOptions, "Origin", "https://app.example", "Access-Control-Request-Method", "POST")
		equal(t, path+" preflight", pre.status, http.StatusNoContent)
		equal(t, path+" allows", pre.header.Get("Access-Control-Allow-Origin"), "*")
		after := ask(http.MethodPost, "Origin", "https://app.example")
		equal(t, path+" refused", after.status, refused)
		equal(t, path+" to be read", after.header.Get("Access-Control-Allow-Origin"), "*")
		equal(t, path+" other OPTIONS", ask(http.MethodOptions).status, refused)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodOptions, "http://"+cluster+"/"+token("a")+"/", nil)
	must(t, err)
	equal(t, "the backend answers its own", w.do(req, "Access-Control-Request-Method", "POST").status, http.StatusOK)
}
