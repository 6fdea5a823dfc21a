package gateway_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp/kb"

	"github.com/jetway-project/jetway/internal/gateway"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/messages"
)

// nextNap gives the next event of sleep of one backend, and leaves others' out, which share the stack.
func (s *stream) nextNap(backend string) messages.SleepEvent {
	s.t.Helper()
	for {
		e := testkit.Receive(s.t, s.events, "an event of sleep of "+backend)
		if e.name != "sleep" {
			continue
		}
		var nap messages.SleepEvent
		if err := json.Unmarshal([]byte(e.data), &nap); err != nil || e.id != "" {
			s.t.Fatalf("%+v: %v", e, err)
		}
		if nap.BackendID == backend {
			return nap
		}
	}
}

// Who may operate puts a backend to sleep and wakes it, with the answers of the bus; streams of one backend and of all say so,
// those of Plane do not.
func TestABackendSleepsAndWakesOverHTTP(t *testing.T) {
	t.Parallel()
	f := start(t, func(c *gateway.Config) { c.Unsure(50 * time.Millisecond) })
	b := f.connect(`{"key":{"name":"sleeper"},` + spawn + `}`)
	f.await(b.BackendID, messages.Ready)
	all, one, plane := f.open("/v1/events"), f.open("/v1/backends/"+b.BackendID+"/events"), f.open("/pub/b/"+b.BackendID+"/status-stream")
	waitLive(t, all, true)
	at := "/v1/backends/" + b.BackendID
	nap := func(path, body string) messages.NapResponse {
		t.Helper()
		return into[messages.NapResponse](t, f.ask("POST", at+path, body))
	}
	if got := nap("/sleep", ""); !got.Asleep || got.Nap != 1 {
		t.Errorf("sleep is answered %+v", got)
	}
	if got := nap("/sleep", `{"backend_id":"`+b.BackendID+`"}`); !got.Asleep || got.Nap != 1 {
		t.Errorf("sleep again is answered %+v", got)
	}
	want(t, f.ask("GET", at, ""), 200, `"asleep":true`)
	want(t, f.ask("GET", "/", ""), 200, "ready, asleep")
	for name, s := range map[string]*stream{"all": all, "one": one} {
		if e := s.nextNap(b.BackendID); e.Type != messages.TypeAsleep || e.Nap != 1 {
			t.Errorf("the stream of %s has %+v", name, e)
		}
	}
	// Who comes now hears of it, too.
	late := f.open(at + "/events")
	if e := late.nextNap(b.BackendID); e.Nap != 1 {
		t.Errorf("who comes later hears %+v", e)
	}
	if got := nap("/wake", "{}"); got.Asleep || got.Nap != 2 {
		t.Errorf("wake is answered %+v", got)
	}
	for name, s := range map[string]*stream{"all": all, "one": one, "late": late} {
		if e := s.nextNap(b.BackendID); e.Type != messages.TypeAwake || e.Nap != 2 {
			t.Errorf("the stream of %s has %+v", name, e)
		}
	}
	want(t, f.ask("POST", at+"/sleep", `{"backend_id":"another"}`), 400, "the path names "+b.BackendID)
	want(t, f.ask("POST", at+"/sleep", `{"backend":"x"}`), 400, "backend")
	want(t, f.ask("POST", at+"/sleep", "sleep", "Content-Type", "text/plain"), 415, "application/json")
	want(t, f.ask("POST", "/v1/connect", `{"key":{"name":"late"},"spawn_config":{"executable":{},"sleep_after_seconds":60,"max_idle_seconds":60}}`), 400, "sleep_after_seconds: is 60.*ends after max_idle_seconds")
	want(t, f.ask("GET", at+"/sleep", ""), 405, "POST")
	want(t, f.ask("POST", "/v1/backends/none/wake", ""), 404, "none")
	want(t, f.ask("POST", "/v1/backends/NONE/wake", ""), 404, "NONE")
	f.ask("POST", "/v1/terminate", `{"backend_id":"`+b.BackendID+`","hard":true}`)
	f.await(b.BackendID, messages.Terminated)
	want(t, f.ask("POST", at+"/sleep", ""), 409, `"kind":"CannotSleep"`)
	for e := range plane.events { // until its end
		if e.name != "" || strings.Contains(e.data, "nap") {
			t.Errorf("Plane's stream has %+v", e)
		}
	}
	// In what one who comes back is given, it is told apart from states.
	for e := range one.events {
		if e.name == "" && e.id == "" {
			t.Errorf("a state without an id: %+v", e)
		}
	}
}

// What becomes of sleep while a client is away is in the stream of all when he is back, at any gateway.
func TestAStreamOfAllGoesOnWithSleepWhereItWas(t *testing.T) {
	t.Parallel()
	url := natstest.Server(t).URL()
	w := startWithoutWorkers(t, url)
	s := w.open("/v1/events")
	waitLive(t, s, true)
	publish := func(nap int64) {
		t.Helper()
		_, err := w.js.Publish(testkit.Context(t), messages.SleepEventSubject("s1"), messages.Encode(messages.NewSleepEvent("s1", time.Now(), nap)))
		must(t, err)
	}
	w.publish("s1", messages.Ready)
	first := s.next()
	publish(1)
	publish(1) // a copy, as after a worker's end
	publish(2)
	if a, b := s.nextNap("s1"), s.nextNap("s1"); a.Nap != 1 || b.Nap != 2 {
		t.Errorf("it hears %+v, %+v", a, b)
	}
	for name, f := range map[string]*fixture{"this": w.fixture, "another": startOn(t, url)} {
		back := f.open("/v1/events", "Last-Event-ID", first.id)
		last := int64(0)
		for last < 2 {
			e := back.nextNap("s1")
			if e.Nap < last {
				t.Errorf("%s gateway goes back to %+v", name, e)
			}
			last = e.Nap
		}
	}
}

// sleepsAndWakes has the page show that a backend sleeps, find it, and wake it once that is confirmed.
func (p *tab) sleepsAndWakes(f *fixture, backend string) {
	p.t.Helper()
	find := func(text string) {
		p.eval(`document.getElementById("find").value = "` + text + `"; document.getElementById("find").dispatchEvent(new Event("input"))`)
	}
	row := `document.getElementById("row-` + backend + `")`
	want(p.t, f.ask("POST", "/v1/backends/"+backend+"/sleep", ""), 200, `"asleep":true`)
	find("asleep")
	p.sees(row + ` !== null && ` + row + `.textContent.includes("ready, asleep")`)
	find(backend)
	p.sees(`document.querySelectorAll("#rows [role=row]").length === 1`)
	p.click("#row-" + backend)
	p.sees(`document.getElementById("detail").open && document.getElementById("facts").textContent.includes("ready, asleep")`)
	p.sees(`document.getElementById("nap").textContent === "Wake"`)
	p.shoot("page-asleep")
	p.click("#nap")
	p.sees(`document.getElementById("confirm").open && document.getElementById("confirm-title").textContent === "Wake ` + backend + `?"`)
	p.click("#confirm-yes")
	p.sees(`document.getElementById("nap").textContent === "Sleep" && document.getElementById("story").textContent.includes("awake")`)
	if info := into[messages.BackendInfo](p.t, f.ask("GET", "/v1/backends/"+backend, "")); info.Asleep || info.Nap.Nap != 2 {
		p.t.Errorf("it is %+v", info.Nap)
	}
	p.key(kb.Escape)
	p.sees(`!document.getElementById("detail").open`)
}
