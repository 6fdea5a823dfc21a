package worker_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/worker"
	"github.com/jetway-project/jetway/messages"
)

func ofTemplate(key, template string) messages.ConnectRequest {
	return messages.ConnectRequest{Key: &messages.Key{Name: key}, SpawnConfig: &messages.SpawnConfig{Template: template}}
}

// put wants a template to be taken.
func (w *world) put(t messages.Template) messages.PutTemplateResponse {
	w.t.Helper()
	data, refusal := w.ask(messages.SubjectTemplatePut, t)
	if refusal != nil {
		w.t.Fatal(refusal)
	}
	return as[messages.PutTemplateResponse](w.t, data)
}

// refuses wants a request to be refused, and the refusal to say some words.
func (w *world) refuses(subject string, payload any, kind messages.Kind, words ...string) {
	w.t.Helper()
	data, refusal := w.ask(subject, payload)
	if refusal == nil || refusal.Kind != kind {
		w.t.Errorf("%s %s: %s %v, want %s", subject, encode(payload), data, refusal, kind)
		return
	}
	for _, word := range words {
		if !strings.Contains(refusal.Message, word) {
			w.t.Errorf("%s %s: %q does not say %q", subject, encode(payload), refusal.Message, word)
		}
	}
}

// The demand: a connect that names a template gets a backend of it as it is at that moment, with its limits unless it sets its own; one whose key somebody
// holds joins, whatever it names; and whoever names one that is not there is told which there are.
func TestConnectsNameTemplates(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	startWorker(t, w, "wo-a", options{})
	p := startPeer(t, w, "dr-a")
	w.refuses(messages.SubjectConnect, ofTemplate("k", "room"), messages.NotFound, `"room"`, "jetway template put")
	room := messages.Template{
		Name: "room", Executable: json.RawMessage(`{"command":["room"]}`), LifetimeLimitSeconds: new(int64(3600)), MaxIdleSeconds: new(int64(60)),
		Spares: 2, ClaimPath: "/claim",
	}
	first := w.put(room)
	got := w.connect(ofTemplate("k", "room"))
	spawn := p.awaitAction(got.BackendID, messages.SpawnID(got.BackendID)).Spawn
	if !got.Spawned || string(spawn.Executable) != `{"command":["room"]}` || *spawn.Template != (messages.SpawnTemplate{Name: "room", Revision: first.Revision, ClaimPath: "/claim"}) {
		t.Errorf("%+v starts %+v of %+v", got, spawn, spawn.Template)
	}
	status := func(id string) messages.BackendInfo {
		t.Helper()
		data, refusal := w.ask(messages.SubjectStatus, messages.StatusRequest{BackendID: id})
		if refusal != nil {
			t.Fatal(refusal)
		}
		return as[messages.BackendInfo](t, data)
	}
	if info := status(got.BackendID); info.Template != "room" || info.MaxIdleSeconds == nil || *info.MaxIdleSeconds != 60 || info.LifetimeEndsAt == nil || info.Runs != "room" {
		t.Errorf("%+v", info)
	}
	own := ofTemplate("own", "room")
	own.SpawnConfig.MaxIdleSeconds = new(int64(7))
	if info := status(w.connect(own).BackendID); *info.MaxIdleSeconds != 7 || info.LifetimeEndsAt == nil {
		t.Errorf("a limit of its own: %+v", info)
	}
	// A limit of the template's ends it before it would sleep.
	late := ofTemplate("late", "room")
	late.SpawnConfig.SleepAfterSeconds = new(int64(60))
	w.refuses(messages.SubjectConnect, late, messages.BadRequest, "spawn_config.sleep_after_seconds: is 60", "max_idle_seconds, which is 60")
	late.SpawnConfig.SleepAfterSeconds = new(int64(59))
	if info := status(w.connect(late).BackendID); info.SleepAfterSeconds == nil || *info.SleepAfterSeconds != 59 {
		t.Errorf("one that sleeps in time: %+v", info)
	}
	for _, name := range []string{"room", "no-such"} {
		if joined := w.connect(ofTemplate("k", name)); joined.Spawned || joined.BackendID != got.BackendID || !joined.SpawnConfigIgnored {
			t.Errorf("a connect of %s with a key that is held: %+v", name, joined)
		}
	}
	events := events(t, w, messages.BackendEventSubject(got.BackendID))
	if len(events) == 0 || as[messages.StateEvent](t, events[0].Data).Template != "room" {
		t.Errorf("the event of scheduled does not name the template: %d events", len(events))
	}

	// What is remembered of templates is not believed.
	room.Executable, room.Spares, room.ClaimPath = json.RawMessage(`{"command":["room","2"]}`), 0, ""
	second := w.put(room)
	got = w.connect(ofTemplate("k2", "room"))
	spawn = p.awaitAction(got.BackendID, messages.SpawnID(got.BackendID)).Spawn
	if string(spawn.Executable) != `{"command":["room","2"]}` || *spawn.Template != (messages.SpawnTemplate{Name: "room", Revision: second.Revision}) {
		t.Errorf("a changed one starts %+v of %+v", spawn, spawn.Template)
	}
	room.Pool = "gpu"
	if put := w.put(room); put.Drones != 0 {
		t.Errorf("%+v", put)
	}
	w.refuses(messages.SubjectConnect, ofTemplate("k3", "room"), messages.NoDroneAvailable, `pools ""`)
	elsewhere := ofTemplate("k3", "room")
	elsewhere.SpawnConfig.Pool = "cpu"
	w.refuses(messages.SubjectConnect, elsewhere, messages.BadRequest, "spawn_config.pool", `"gpu"`, "leave it out")
	elsewhere.SpawnConfig.Pool, elsewhere.SpawnConfig.Cluster = "", "elsewhere"
	w.refuses(messages.SubjectConnect, elsewhere, messages.BadRequest, "spawn_config.cluster", "leave it out")
	room.Pool = ""
	w.put(room)
	w.connect(ofTemplate("k3", "room"))
	if _, refusal := w.ask(messages.SubjectTemplateDelete, messages.TemplateRequest{Name: "room"}); refusal != nil {
		t.Fatal(refusal)
	}
	w.put(messages.Template{Name: "rooms", Executable: json.RawMessage(`{}`)})
	for _, name := range []string{"room", "rom"} {
		w.refuses(messages.SubjectConnect, ofTemplate("k4", name), messages.NotFound, fmt.Sprintf("%q", name), `"rooms"`)
	}
	w.refuses(messages.SubjectTemplateGet, messages.TemplateRequest{Name: "room"}, messages.NotFound, `"rooms"`)
	w.refuses(messages.SubjectTemplateDelete, messages.TemplateRequest{Name: "kitchen"}, messages.NotFound, `"kitchen"`)
	if n := w.count("lease where name = 'k4'"); n != 0 {
		t.Errorf("%d refused connects left something behind", n)
	}
}

// I4, I7: a template that is deleted, or changed, while connects name it: each gets a backend of a template that there was, or is told that there is none,
// and who asks once it is gone gets none.
func TestI7TemplateDeletedWhileConnectsNameIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	startWorker(t, w, "wo-a", options{})
	startWorker(t, w, "wo-b", options{})
	p := startPeer(t, w, "dr-a")
	revisions := map[int64]string{}
	put := func(n int) {
		executable := fmt.Sprintf(`{"command":["room","%d"]}`, n)
		revisions[w.put(messages.Template{Name: "room", Executable: json.RawMessage(executable)}).Revision] = executable
	}
	put(0)
	var asked []<-chan *nats.Msg
	for i := range 60 {
		asked = append(asked, w.sendConnect(ofTemplate(fmt.Sprint("k", i), "room"), 0))
		switch i {
		case 20, 40:
			put(i)
		case 50:
			if _, refusal := w.ask(messages.SubjectTemplateDelete, messages.TemplateRequest{Name: "room"}); refusal != nil {
				t.Fatal(refusal)
			}
		}
	}
	spawned := 0
	for i, reply := range asked {
		got, refusal := w.awaitConnect(reply)
		switch {
		case refusal == nil && i <= 50:
			spawned++
			spawn := p.awaitAction(got.BackendID, messages.SpawnID(got.BackendID)).Spawn
			if revisions[spawn.Template.Revision] != string(spawn.Executable) {
				t.Errorf("revision %d starts %s, not %s", spawn.Template.Revision, spawn.Executable, revisions[spawn.Template.Revision])
			}
		case refusal == nil:
			t.Errorf("connect %d came after the delete and got %+v", i, got)
		case refusal.Kind != messages.NotFound:
			t.Errorf("connect %d: %v", i, refusal)
		}
	}
	if n := w.count("backend"); n != spawned {
		t.Errorf("%d backends for %d connects that were granted", n, spawned)
	}
}

// The demand: a worker that runs templates alone refuses connects that bring an executable, also those that would join, and no others.
func TestTemplatesOnlyRefusesExecutables(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	startWorker(t, w, "wo-a", options{change: func(c *worker.Config) { c.TemplatesOnly = true }})
	startPeer(t, w, "dr-a")
	w.put(messages.Template{Name: "room", Executable: json.RawMessage(`{"command":["room"]}`)})
	w.refuses(messages.SubjectConnect, spawnKey("k"), messages.Forbidden, "spawn_config.executable", "--templates-only", "spawn_config.template")
	w.connect(ofTemplate("k", "room"))
	w.refuses(messages.SubjectConnect, spawnKey("k"), messages.Forbidden)
	w.connect(messages.ConnectRequest{Key: &messages.Key{Name: "k"}})
}

// The demand: a drone hears of changed templates with its registration and its heartbeats, asks, and is told its own; what it says of its spares is seen by who
// lists drones or asks for the template; a spawn that it refuses goes to another drone with its template.
func TestDronesKeepSparesOfTemplates(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	startWorker(t, w, "wo-a", options{})
	p := startPeer(t, w, "dr-a")
	if p.where.TemplatesRevision != 0 || p.heartbeat().TemplatesRevision != 0 {
		t.Errorf("there are templates from the beginning: %+v", p.where)
	}
	room := messages.Template{Name: "room", Executable: json.RawMessage(`{"command":["room"]}`), Spares: 2, ClaimPath: "/claim"}
	put := w.put(room)
	if is := p.heartbeat().TemplatesRevision; is != put.Revision {
		t.Errorf("the drone hears of %d after a put of %d", is, put.Revision)
	}
	ask := func(session string) ([]byte, *messages.Error) {
		return w.ask(messages.SubjectDroneTemplates(p.name), messages.TemplatesRequest{Session: session})
	}
	data, refusal := ask(p.session)
	if refusal != nil {
		t.Fatal(refusal)
	}
	told := as[messages.TemplatesResponse](t, data)
	if told.Revision != put.Revision || len(told.Templates) != 1 || told.Templates[0].Name != "room" || told.Templates[0].Revision != put.Revision || told.Templates[0].Cluster != cluster {
		t.Errorf("%s", data)
	}
	if _, refusal := ask("s-other"); refusal == nil || refusal.Kind != messages.NotFound {
		t.Errorf("another session: %v", refusal)
	}
	spares := messages.SpareState{Template: "room", Revision: put.Revision, Ready: 2, Claims: 5, Error: "exit status 1"}
	if _, refusal := w.ask(messages.HeartbeatSubject(p.name), messages.HeartbeatRequest{
		Session: p.session, DroneTimeMS: p.clock.Add(1), Ready: true, Spares: []messages.SpareState{spares},
	}); refusal != nil {
		t.Fatal(refusal)
	}
	data, refusal = w.ask(messages.SubjectTemplateGet, messages.TemplateRequest{Name: "room"})
	if refusal != nil {
		t.Fatal(refusal)
	}
	if info := as[messages.TemplateInfo](t, data); info.SparesReady != 2 || len(info.Drones) != 1 || info.Drones[0].Drone != "dr-a" || info.Drones[0].SpareState != spares || info.Error != spares.Error {
		t.Errorf("%s", data)
	}
	data, _ = w.ask(messages.SubjectDrones, messages.DronesRequest{})
	if drones := as[messages.DronesResponse](t, data).Drones; len(drones) != 1 || len(drones[0].Spares) != 1 || drones[0].Spares[0] != spares {
		t.Errorf("%s", data)
	}
	data, _ = w.ask(messages.SubjectTemplateList, messages.ListTemplatesRequest{})
	if list := as[messages.ListTemplatesResponse](t, data).Templates; len(list) != 1 || list[0].SparesReady != 2 || string(list[0].Executable) != `{"command":["room"]}` {
		t.Errorf("%s", data)
	}

	got := w.connect(ofTemplate("k", "room"))
	p.awaitAction(got.BackendID, messages.SpawnID(got.BackendID))
	other := startPeer(t, w, "dr-b")
	refusing := stateOf(got.BackendID, messages.Terminated)
	refusing.Refused, refusing.Kind, refusing.Reason = true, "", messages.ReasonStartFailed
	testkit.Eventually(t, "the refusal is taken", func() bool { return p.tryReport(refusing) == nil })
	again := other.awaitAction(got.BackendID, messages.SpawnAgainID(got.BackendID, 1)).Spawn
	if again.Template == nil || again.Template.Revision != put.Revision {
		t.Errorf("on another drone it is of %+v", again.Template)
	}
}

// The demand: bad templates get a clear error each, and leave nothing behind.
func TestBadTemplatesAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	startWorker(t, w, "wo-a", options{change: func(c *worker.Config) { c.DefaultCluster = "" }})
	room := `{"name":"room","cluster":"c.test","executable":{"command":["room"]}`
	w.refuses(messages.SubjectTemplatePut, `{"name":"room","executable":{}}`, messages.NoClusterProvided, "cluster")
	w.refuses(messages.SubjectTemplatePut, room+`,"spares":1}`, messages.BadRequest, "claim_path", "/claim")
	w.refuses(messages.SubjectTemplatePut, room+`,"executable":{}}`, messages.BadRequest, "executable: is there twice")
	w.refuses(messages.SubjectTemplatePut, room+`,"revision":5}`, messages.TemplateChanged, "deleted")
	w.refuses(messages.SubjectTemplatePut, `[]`, messages.BadRequest)
	w.refuses(messages.SubjectTemplateGet, `{}`, messages.BadRequest, "name")
	w.refuses(messages.SubjectTemplateList, `{"limit":-1}`, messages.BadRequest, "limit")
	w.refuses(messages.SubjectConnect, `{"spawn_config":{"template":"a","executable":{}}}`, messages.BadRequest, "leave out one of them")
	if n := w.count("template"); n != 0 {
		t.Errorf("%d templates", n)
	}
	first := as[messages.PutTemplateResponse](t, putText(w, room+`}`))
	putText(w, room+`,"spares":3,"claim_path":"/claim"}`)
	w.refuses(messages.SubjectTemplatePut, fmt.Sprintf(`%s,"revision":%d}`, room, first.Revision), messages.TemplateChanged, "somebody else changed it")
	w.refuses(messages.SubjectTemplateDelete, messages.TemplateRequest{Name: "room", Revision: first.Revision}, messages.TemplateChanged)
}

// putText puts a template in its own words.
func putText(w *world, payload string) []byte {
	w.t.Helper()
	data, refusal := w.ask(messages.SubjectTemplatePut, payload)
	if refusal != nil {
		w.t.Fatal(refusal)
	}
	return data
}
