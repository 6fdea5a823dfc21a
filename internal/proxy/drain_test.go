package proxy

import (
	"encoding/json"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/jetway-project/jetway/internal/metrics"
	"github.com/jetway-project/jetway/internal/testkit"
)

// Asked to end, the proxy says so at /ready, serves who comes as long as its drain delay
// lasts, and then waits for what is open.
func TestDrain(t *testing.T) {
	for name, delay := range map[string]time.Duration{"while the delay lasts": testkit.Patience, "after the delay": 50 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(c *Config) { c.DrainDelay, c.DrainTimeout = delay, testkit.Patience })
			w.leads(token("socket"), "be-a", echoSocket)
			w.leads(token("plain"), "be-b", echo)
			c, _ := w.socket("/" + token("socket") + "/")
			testkit.Eventually(t, "/ready to be 200 before", func() bool { return w.get("/ready").status == http.StatusOK })
			stopped := make(chan struct{})
			go func() { defer close(stopped); w.stop() }()
			if delay == testkit.Patience {
				testkit.Eventually(t, "/ready to be 503", func() bool { return w.get("/ready").status == http.StatusServiceUnavailable })
				equal(t, "a new request", w.get("/"+token("plain")+"/").status, http.StatusOK)
				_ = w.proxy.cfg.Listener.Close() // which ends the delay, too
			}
			testkit.Eventually(t, "new connections to be refused", w.refuses)
			equal(t, "the WebSocket", say(t, c, "still here"), "still here")
			must(t, c.CloseNow())
			testkit.Receive(t, stopped, "Run to end")
		})
	}
}

// refuses says that nobody can connect to the proxy.
func (w *world) refuses() bool {
	conn, err := net.Dial("tcp", w.addr)
	if err == nil {
		_ = conn.Close()
	}
	return err != nil
}

func TestAccessLogTellsWhoDidWhatButNoToken(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.AccessLog = true })
	tok, static := token("plain"), "s."+token("static")
	w.leads(tok, "be-plain", echo)
	w.leads(static, "be-static", echo)
	w.leads(token("socket"), "be-socket", echoSocket)
	w.get("/"+tok+"/some/path?secret=1", "User-Agent", "agent-a")
	w.get("/" + static + "/other")
	w.get("/" + token("none") + "/x")
	w.get("/" + tok + "x/x")
	c, _ := w.socket("/" + token("socket") + "/ws")
	say(t, c, "hello")
	must(t, c.CloseNow())
	for _, part := range []string{
		`path=/some/path `, `agent=agent-a`, `backend_id=be-plain`, `status=200`, `sent=`, `path=/other `, `status=410`, `path=/… `,
		`msg="upgraded connection"`, `path=/ws `, `status=101`,
	} {
		testkit.Eventually(t, part, func() bool { return w.log.contains(part) })
	}
	for _, secret := range []string{tok, static, token("none"), token("socket"), "secret"} {
		if w.log.contains(secret) {
			t.Errorf("the log holds %q", secret)
		}
	}
}

func TestNoAccessLogUnlessAsked(t *testing.T) {
	w := newWorld(t)
	w.leads(token("a"), "be-a", echo)
	w.get("/" + token("a") + "/")
	if w.log.contains("msg=request ") {
		t.Error("the request was logged")
	}
}

func TestRefusalsCarryTheIDOfTheirLogLine(t *testing.T) {
	w := newWorld(t)
	var pg page
	must(t, json.Unmarshal([]byte(w.get("/"+token("none")+"/", "Accept", "application/json").body), &pg))
	if pg.ID == "" || !w.log.contains("id="+pg.ID) {
		t.Errorf("the id %q is not in the log", pg.ID)
	}
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := metrics.NewProxy(reg)
	w := newWorld(t, func(c *Config) { c.Metrics, c.Version = m, "v1" })
	w.leads(token("plain"), "be-a", echo)
	w.leads(token("socket"), "be-b", echoSocket)
	w.starting(token("starting"), "be-c")
	w.get("/" + token("plain") + "/")
	w.get("/" + token("plain") + "/")
	w.get("/" + token("none") + "/")
	w.get("/" + token("none") + "/")
	w.get("/")
	c, _ := w.socket("/" + token("socket") + "/")
	conn := w.dial("GET /" + token("starting") + "/ HTTP/1.1\r\nHost: " + cluster + "\r\n\r\n")
	testkit.Eventually(t, "the request to be held", func() bool { return w.waiting() == 1 })
	want := `
# HELP jetway_proxy_open_requests Requests under way, by state: held until their backend is ready, upgraded (WebSockets and the like), or other.
# TYPE jetway_proxy_open_requests gauge
jetway_proxy_open_requests{state="held"} 1
jetway_proxy_open_requests{state="other"} 0
jetway_proxy_open_requests{state="upgraded"} 1
# HELP jetway_proxy_route_lookups_total Times that it was to be found out where a token leads, by how that went.
# TYPE jetway_proxy_route_lookups_total counter
jetway_proxy_route_lookups_total{outcome="failed"} 0
jetway_proxy_route_lookups_total{outcome="found"} 3
jetway_proxy_route_lookups_total{outcome="nowhere"} 1
jetway_proxy_route_lookups_total{outcome="refused"} 1
jetway_proxy_route_lookups_total{outcome="remembered"} 1
# HELP jetway_proxy_routes Routes that are remembered.
# TYPE jetway_proxy_routes gauge
jetway_proxy_routes 2
`
	testkit.Eventually(t, "the requests to be counted", func() bool {
		return testutil.GatherAndCompare(reg, strings.NewReader(want), "jetway_proxy_open_requests", "jetway_proxy_route_lookups_total", "jetway_proxy_routes") == nil
	})
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "jetway_proxy_open_requests", "jetway_proxy_route_lookups_total", "jetway_proxy_routes"); err != nil {
		t.Error(err)
	}
	_ = conn.Close()
	_ = c.CloseNow()
	testkit.Eventually(t, "all to be gone", func() bool { return w.inside() == 0 })
	all := gather(t, reg)
	for _, line := range []string{
		`jetway_proxy_requests_total{by="backend",status="2xx"} 2`, `jetway_proxy_requests_total{by="backend",status="1xx"} 1`,
		`jetway_proxy_requests_total{by="proxy",status="410"} 2`, `jetway_proxy_requests_total{by="proxy",status="401"} 1`,
		`jetway_proxy_requests_total{by="",status="abandoned"} 1`, `jetway_proxy_added_seconds 3`,
		`jetway_proxy_info{proxy="px-test",version="v1"} 1`, `jetway_proxy_nats_connected 1`,
	} {
		if !strings.Contains(all, line+"\n") {
			t.Errorf("%s is missing in\n%s", line, all)
		}
	}
}

// gather gives one line for each series, of histograms the count.
func gather(t *testing.T, reg *prometheus.Registry) string {
	t.Helper()
	families, err := reg.Gather()
	must(t, err)
	var out strings.Builder
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+`="`+l.GetValue()+`"`)
			}
			out.WriteString(f.GetName())
			if len(labels) > 0 {
				out.WriteString("{" + strings.Join(labels, ",") + "}")
			}
			value := m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			out.WriteString(" " + strconv.FormatFloat(value, 'f', -1, 64) + "\n")
		}
	}
	return out.String()
}
