package gateway

import (
	"net/http"
	"slices"
	"strings"

	"github.com/jetway-project/jetway/messages"
)

// route is one line of the table: what is served, and to whom.
type route struct {
	method, path string
	// scope is what a token must have; "": none is asked for.
	scope string
	// shared says that what it shows or changes is everybody's: a token of some namespaces is refused.
	shared bool
	// public is served without a token, as Plane's, unless the operator says otherwise.
	public bool
	// plane says that it answers as Plane does.
	plane bool
	// stream says that it has no end of its own.
	stream bool
	// connects says that it is counted as one of these.
	connects bool
	serve    func(*call) (any, error)

	// summary, in and out are for the description: what it does, the types of its body and its answer, and
	// the parameters in its query.
	summary string
	in, out any
	query   any

	name string // method and path, for who counts
}

// routes are all that there are. A table in the tests asks each of them with a token of another namespace.
var routes []route

func init() { // the description of the table is one of its routes
	routes = []route{
		{
			method: "POST", path: "/v1/connect", scope: ScopeConnect, connects: true, serve: (*call).connect, in: messages.ConnectRequest{}, out: Connected{}, query: connectQuery{},
			summary: "Get the URL of the backend of a key; starts it if none runs",
		},
		{
			method: "POST", path: "/v1/revoke", scope: ScopeConnect, serve: on(messages.SubjectRevoke), in: messages.RevokeRequest{}, out: messages.RevokeResponse{},
			summary: "Make connection tokens lead nowhere",
		},
		{
			method: "POST", path: "/v1/terminate", scope: ScopeOperate, serve: on(messages.SubjectTerminate), in: messages.TerminateRequest{}, out: map[string]any{},
			summary: "End a backend",
		},
		{
			method: "POST", path: "/v1/drain", scope: ScopeOperate, shared: true, serve: on(messages.SubjectDrain), in: messages.DrainRequest{}, out: messages.DrainResponse{},
			summary: "Give a drone no more backends",
		},
		{
			method: "POST", path: "/v1/undrain", scope: ScopeOperate, shared: true, serve: on(messages.SubjectUndrain), in: messages.DrainRequest{}, out: messages.DrainResponse{},
			summary: "Give a drone backends again",
		},
		{
			method: "POST", path: "/v1/retry", scope: ScopeOperate, serve: (*call).retry, in: messages.RetryRequest{}, out: messages.RetryResponse{},
			summary: "Forgive a key the lives that failed, so that it may be started at once",
		},
		{
			method: "GET", path: "/v1/templates", scope: ScopeTemplates, shared: true, serve: (*call).templates, out: messages.ListTemplatesResponse{}, query: pageQuery{},
			summary: "List templates by name, in pages",
		},
		{
			method: "POST", path: "/v1/templates", scope: ScopeTemplates, shared: true, serve: on(messages.SubjectTemplatePut), in: messages.Template{}, out: messages.PutTemplateResponse{},
			summary: "Make a template, or change it",
		},
		{
			method: "GET", path: "/v1/templates/{template}", scope: ScopeTemplates, shared: true, serve: (*call).template, out: messages.TemplateInfo{},
			summary: "Show one template, and how it fares on the drones that keep spares of it",
		},
		{
			method: "DELETE", path: "/v1/templates/{template}", scope: ScopeTemplates, shared: true, serve: (*call).deleteTemplate, out: map[string]any{}, query: revisionQuery{},
			summary: "Delete a template; its backends go on, its spares end",
		},
		{
			method: "POST", path: "/v1/status", scope: ScopeRead, serve: (*call).statusOf, in: messages.StatusRequest{}, out: messages.BackendInfo{},
			summary: "Show one backend, by its id or its key",
		},
		{
			method: "GET", path: "/v1/backends", scope: ScopeRead, serve: (*call).backends, out: messages.BackendsResponse{}, query: backendsQuery{},
			summary: "List backends by id, in pages",
		},
		{
			method: "GET", path: "/v1/backends/{backend}", scope: ScopeRead, serve: (*call).backend, out: messages.BackendInfo{},
			summary: "Show one backend",
		},
		{
			method: "GET", path: "/v1/backends/{backend}/events", scope: ScopeRead, stream: true, serve: (*call).events, out: Events{},
			summary: "What has become of a backend; as text/event-stream also what becomes of it, until it has ended",
		},
		{
			method: "GET", path: "/v1/backends/{backend}/logs", scope: ScopeRead, stream: true, serve: (*call).logs, out: Lines{}, query: logsQuery{},
			summary: "The last lines that a backend wrote; as text/event-stream also what it writes, until it has ended",
		},
		{
			method: "POST", path: "/v1/backends/{backend}/sleep", scope: ScopeOperate, serve: nap(messages.SubjectSleep), out: messages.NapResponse{},
			summary: "Put a backend to sleep, until somebody visits it",
		},
		{
			method: "POST", path: "/v1/backends/{backend}/wake", scope: ScopeOperate, serve: nap(messages.SubjectWake), out: messages.NapResponse{},
			summary: "Wake a backend",
		},
		{
			method: "GET", path: "/v1/keys", scope: ScopeRead, serve: (*call).keys, out: messages.KeysResponse{}, query: keysQuery{},
			summary: "List keys by name, in pages: live, asleep, dormant and backing off",
		},
		{
			method: "GET", path: "/v1/drones", scope: ScopeRead, shared: true, serve: (*call).drones, out: messages.DronesResponse{}, query: pageQuery{},
			summary: "List drones by name, in pages",
		},
		{
			method: "GET", path: "/v1/events", scope: ScopeRead, stream: true, serve: (*call).allEvents, out: eventStream(""),
			summary: "What becomes of all backends, from now on, or from Last-Event-ID on",
		},

		{method: "GET", path: "/pub/health", public: true, plane: true, serve: (*call).planeHealth},
		{method: "GET", path: "/pub/b/{backend}/status", public: true, plane: true, serve: (*call).planeStatus},
		{method: "GET", path: "/pub/b/{backend}/status-stream", public: true, plane: true, stream: true, serve: (*call).planeStream},
		{method: "GET", path: "/ctrl/status", scope: ScopeRead, plane: true, serve: (*call).planeVersion},
		{method: "POST", path: "/ctrl/connect", scope: ScopeConnect, connects: true, plane: true, serve: (*call).planeConnect},
		{method: "GET", path: "/ctrl/c/{cluster}/state", scope: ScopeRead, shared: true, plane: true, serve: (*call).planeCluster},
		{method: "POST", path: "/ctrl/c/{cluster}/d/{drone}/drain", scope: ScopeOperate, shared: true, plane: true, serve: (*call).planeDrain},
		{method: "POST", path: "/ctrl/b/{backend}/soft-terminate", scope: ScopeOperate, plane: true, serve: (*call).planeSoft},
		{method: "POST", path: "/ctrl/b/{backend}/hard-terminate", scope: ScopeOperate, plane: true, serve: (*call).planeHard},
		{method: "POST", path: "/ctrl/b/revoke", scope: ScopeConnect, plane: true, serve: (*call).planeRevoke},
		{method: "POST", path: "/ctrl/revoke", scope: ScopeConnect, plane: true, serve: (*call).planeRevoke}, // where Plane's Rust client asks

		{method: "GET", path: "/healthz", serve: (*call).health},
		{method: "GET", path: "/readyz", serve: (*call).health},
		{method: "GET", path: "/metrics", scope: ScopeRead, shared: true, serve: (*call).health},
		{method: "GET", path: "/openapi.json", serve: (*call).describe},
		{method: "GET", path: "/", serve: (*call).page},
		{method: "GET", path: "/page.json", scope: ScopeRead, shared: true, serve: (*call).counts},
		{method: "GET", path: "/page.js", serve: (*call).asset},
		{method: "GET", path: "/page.css", serve: (*call).asset},
		{method: "POST", path: "/login", serve: (*call).login},
		{method: "POST", path: "/logout", serve: (*call).logout},
	}
	for i := range routes {
		routes[i].name = routes[i].method + " " + routes[i].path
	}
}

// serve answers a request for a path that there is.
func (g *Gateway) serve(w http.ResponseWriter, r *http.Request, path string, methods map[string]*route) {
	public := strings.HasPrefix(path, "/pub/")
	if public {
		allowEverywhere(w.Header())
	}
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	rt := methods[method]
	if rt != nil {
		c := &call{g: g, w: w, r: r, route: rt}
		c.serve()
		return
	}
	var allow []string
	for m := range methods {
		if allow = append(allow, m); m == http.MethodGet {
			allow = append(allow, http.MethodHead)
		}
	}
	slices.Sort(allow)
	w.Header().Set("Allow", strings.Join(allow, ","))
	c := &call{g: g, w: w, r: r, route: &route{name: "other " + path, path: path}}
	switch {
	case public && r.Method == http.MethodOptions:
		h := w.Header()
		h.Set("Access-Control-Allow-Methods", "GET,POST")
		h.Set("Access-Control-Allow-Headers", "content-type")
		c.plain(http.StatusOK, "")
	case public || strings.HasPrefix(path, "/ctrl/"):
		c.plain(http.StatusMethodNotAllowed, "")
	default:
		c.fail(messages.Errorf(MethodNotAllowed, "%s: takes %s", path, strings.Join(allow, " and ")))
	}
}

// unknown answers for what there is not.
func (g *Gateway) unknown(w http.ResponseWriter, r *http.Request) {
	c := &call{g: g, w: w, r: r, route: &route{name: "other "}}
	if strings.HasPrefix(r.URL.Path, "/pub/") || strings.HasPrefix(r.URL.Path, "/ctrl/") {
		c.plain(http.StatusNotFound, "")
		return
	}
	c.fail(messages.Errorf(messages.NotFound, "there is nothing at %.200q: /openapi.json says what there is", r.URL.Path))
}

// allowEverywhere lets pages of any site read an answer, as Plane's /pub does.
func allowEverywhere(h http.Header) {
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Vary", "origin, access-control-request-method, access-control-request-headers")
}
