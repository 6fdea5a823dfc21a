package store_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// template is one of the drones' cluster.
func template(name string) *messages.Template {
	return &messages.Template{Name: name, Cluster: cluster, Executable: json.RawMessage(`{"command":["room"]}`), Spares: 2, ClaimPath: "/claim"}
}

func (d *db) put(t *messages.Template) messages.PutTemplateResponse {
	d.t.Helper()
	done, err := d.PutTemplate(d.t.Context(), t)
	if err != nil {
		d.t.Fatal(err)
	}
	return done
}

// counter is what drones are told of all templates.
func (d *db) counter() int64 {
	d.t.Helper()
	heard, err := d.Heartbeat(d.t.Context(), "dr-a", &messages.HeartbeatRequest{Session: session, DroneTimeMS: 2000, Ready: true})
	if err != nil || !heard.Known {
		d.t.Fatalf("heartbeat: known %v, %v", heard.Known, err)
	}
	return heard.TemplatesRevision
}

// The demand: the counter rises with every put that changes something and every delete, and with nothing else; drones hear of it with
// registrations and heartbeats, and are told what they are to keep spares of and nothing else.
func TestTemplatesHaveOneCounterOfWhichDronesHear(t *testing.T) {
	t.Parallel()
	d := newRunningDB(t)
	d.drone("dr-a")
	if n := d.counter(); n != 0 {
		t.Errorf("the counter is %d before there is a template", n)
	}
	first := d.put(template("room"))
	if first.Replaced != 0 || first.Drones != 1 || d.counter() != first.Revision {
		t.Errorf("%+v, and the counter is %d", first, d.counter())
	}
	spaced := template("room")
	spaced.Executable = json.RawMessage("{ \"command\": [\"room\"] }\n")
	if same := d.put(spaced); same.Revision != first.Revision || same.Replaced != first.Revision || d.counter() != first.Revision {
		t.Errorf("a put of the same gives %+v, and the counter is %d, was %d", same, d.counter(), first.Revision)
	}
	elsewhere := template("elsewhere")
	elsewhere.Pool = "gpu"
	if put := d.put(elsewhere); put.Drones != 0 || put.Revision <= first.Revision {
		t.Errorf("in a pool without drones: %+v", put)
	}
	cold := template("cold")
	cold.Spares = 0
	d.put(cold)
	changed := template("room")
	changed.Spares, changed.MaxIdleSeconds = 3, new(int64(60))
	second := d.put(changed)
	if second.Replaced != first.Revision || second.Revision <= first.Revision {
		t.Errorf("a change gives %+v after %+v", second, first)
	}
	want := *changed
	want.Revision = second.Revision
	resp, ok, err := d.TemplatesOfDrone(t.Context(), "dr-a", session)
	if diff := cmp.Diff(messages.TemplatesResponse{Revision: second.Revision, Templates: []messages.Template{want}}, resp); diff != "" || !ok || err != nil {
		t.Errorf("the drone is told (%v, %v) %s", ok, err, diff)
	}
	if _, ok, err := d.TemplatesOfDrone(t.Context(), "dr-a", "s-other"); ok || err != nil {
		t.Errorf("another session is told, too (%v)", err)
	}
	if ok, err := d.DeleteTemplate(t.Context(), "room", 0); !ok || err != nil {
		t.Fatalf("%v, %v", ok, err)
	}
	done, err := d.Register(t.Context(), "dr-a", registration("dr-a", session))
	if err != nil || done.TemplatesRevision <= second.Revision || done.TemplatesRevision != d.counter() {
		t.Errorf("after the delete the counter is %d, was %d (%v)", done.TemplatesRevision, second.Revision, err)
	}
	if resp, ok, err := d.TemplatesOfDrone(t.Context(), "dr-a", session); !ok || err != nil || resp.Templates == nil || len(resp.Templates) > 0 || resp.Revision != done.TemplatesRevision {
		t.Errorf("the drone is told %+v, %v, %v", resp, ok, err)
	}
	// A database that was restored has another template under no revision that a drone may have spares of.
	d.exec(`update setting set templates_revision = 7`)
	if put := d.put(template("room")); put.Revision <= done.TemplatesRevision {
		t.Errorf("after a restore a template has revision %d, and drones have had %d", put.Revision, done.TemplatesRevision)
	}
}

// The demand: of two operators who change the same template at once, one is told that the other did.
func TestI4TemplateOfTwoOperatorsAtOnce(t *testing.T) {
	t.Parallel()
	d := newRunningDB(t)
	is := d.put(template("room")).Revision
	var mu sync.Mutex
	var granted, refused int
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			change := template("room")
			change.Pool, change.Revision = fmt.Sprint("p", i), is
			_, err := d.PutTemplate(t.Context(), change)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				granted++
			case messages.KindOf(err) == messages.TemplateChanged:
				refused++
			default:
				t.Error(err)
			}
		})
	}
	all.Wait()
	if granted != 1 || refused != 7 {
		t.Errorf("of 8 changes of one revision %d are granted and %d refused", granted, refused)
	}
	if _, err := d.DeleteTemplate(t.Context(), "room", is); messages.KindOf(err) != messages.TemplateChanged {
		t.Errorf("a delete of what was changed since: %v", err)
	}
	if ok, err := d.DeleteTemplate(t.Context(), "room", 0); !ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
	change := template("room")
	change.Revision = is
	if _, err := d.PutTemplate(t.Context(), change); messages.KindOf(err) != messages.TemplateChanged || !strings.Contains(err.Error(), "deleted") {
		t.Errorf("a change of what was deleted: %v", err)
	}
	if ok, err := d.DeleteTemplate(t.Context(), "room", 0); ok || err != nil {
		t.Errorf("a delete of what is not there: %v, %v", ok, err)
	}
}

// I4: what is spawned for a template is the one that is there when the key is taken, or nothing is.
func TestI4SpawnsAreOfTheTemplateThatIsThere(t *testing.T) {
	t.Parallel()
	d := newRunningDB(t)
	d.drone("dr-a")
	is := d.put(template("room")).Revision
	of := func(key string, revision int64) lease.Want {
		w := want(key, "b-"+key, "dr-a")
		w.Spawn.Body.Template = &messages.SpawnTemplate{Name: "room", Revision: revision, ClaimPath: "/claim"}
		return w
	}
	got, rows := d.connect(of("k1", is), of("k2", is-1), want("k3", "b-k3", "dr-a"))
	if got[0].Result != lease.Acquired || got[1].Result != lease.Unheld || got[2].Result != lease.Acquired || len(rows) != 2 {
		t.Errorf("%+v", got)
	}
	if d.status("b-k1").Template != "room" || d.status("b-k3").Template != "" {
		t.Errorf("the backends are of the templates %q and %q", d.status("b-k1").Template, d.status("b-k3").Template)
	}
	msg, err := rows[0].State()
	if err != nil || !strings.Contains(string(msg.Data), `"template":"room"`) {
		t.Errorf("the event says %s, %v", msg.Data, err)
	}
	if ok, err := d.DeleteTemplate(t.Context(), "room", 0); !ok || err != nil {
		t.Fatalf("%v, %v", ok, err)
	}
	joins := of("k1", is)
	joins.Tokens = nil
	if got, _ := d.connect(joins, of("k4", is)); got[0].Result != lease.Held || got[1].Result != lease.Unheld {
		t.Errorf("after the delete: %+v", got)
	}
	if n := one[int](d, `select count(*) from lease where name in ('k2', 'k4')`); n != 0 {
		t.Errorf("%d refused connects left something behind", n)
	}
}

// I8: there are only so many templates, and what one drone is told of them fits one message.
func TestI8TemplatesAreBounded(t *testing.T) {
	t.Parallel()
	d := newRunningDB(t)
	refused := func(word string, change func(*messages.Template)) {
		t.Helper()
		put := template("one-more")
		change(put)
		if _, err := d.PutTemplate(t.Context(), put); messages.KindOf(err) != messages.BadRequest || !strings.Contains(fmt.Sprint(err), word) {
			t.Errorf("%v, wanted one that says %s", err, word)
		}
	}
	large := func(n int) json.RawMessage { return json.RawMessage(`{"x":"` + strings.Repeat("x", n-8) + `"}`) }
	put := template("large")
	put.Executable = large(messages.MaxExecutable)
	d.put(put)
	refused("executable: ", func(*messages.Template) {})
	d.put(put) // itself does not count beside itself
	for _, free := range []func(*messages.Template){
		func(t *messages.Template) { t.Pool = "other" }, func(t *messages.Template) { t.Cluster = "other" }, func(t *messages.Template) { t.Spares = 0 },
	} {
		put := template("one-more")
		free(put)
		d.put(put)
	}
	d.exec(`delete from template`)
	fill := `insert into template (name, cluster, pool, executable, spares, claim_path, revision)
		select $4::text || i, $1, '', repeat('x', $2::int), $3::int, '/', i from generate_series(1, $5::int) i`
	d.exec(fill, cluster, 2, 1, "s-", messages.MaxTemplates)
	refused("spares: ", func(*messages.Template) {})
	d.exec(`delete from template`)
	d.exec(fill, cluster, messages.MaxExecutable, 0, "l-", messages.MaxAllExecutables/messages.MaxExecutable)
	refused("executable: ", func(t *messages.Template) { t.Spares = 0 })
	d.exec(`delete from template`)
	d.exec(fill, cluster, 2, 0, "n-", messages.MaxAllTemplates)
	refused("name: ", func(t *messages.Template) { t.Spares = 0 })
	put = template("n-1")
	put.Spares = 0
	if put := d.put(put); put.Replaced != 1 {
		t.Errorf("one of them is changed: %+v", put)
	}
}

// The demand: a heartbeat with spares writes one row and touches no index; what it says of them is there for placement, for listings and for
// whoever asks for a template.
func TestHeartbeatKeepsSparesInTheSessionsRow(t *testing.T) {
	t.Parallel()
	d := newRunningDB(t)
	d.drone("dr-a")
	d.drone("dr-b")
	d.put(template("room"))
	d.put(template("cold"))
	updates := d.counting()
	beat := func(drone string, spares ...messages.SpareState) {
		t.Helper()
		heard, err := d.Heartbeat(t.Context(), drone, &messages.HeartbeatRequest{Session: session, DroneTimeMS: 2000, Ready: true, Spares: spares})
		if err != nil || !heard.Known {
			t.Fatalf("heartbeat: known %v, %v", heard.Known, err)
		}
	}
	said := messages.SpareState{Template: "room", Revision: 5, Ready: 2, Starting: 1, Claims: 7, Misses: 3, Error: `it says "no" and \u0000`}
	others := make([]messages.SpareState, 9)
	for i := range others {
		others[i] = messages.SpareState{Template: fmt.Sprint("other-", i), Error: strings.Repeat("x", messages.MaxSpareError)}
	}
	all := slices.Concat(others, []messages.SpareState{said})
	before, coldBefore := updates("session")
	for range 4 {
		beat("dr-a", all...)
	}
	if all, cold := updates("session"); all != before+4 || cold != coldBefore {
		t.Errorf("4 heartbeats updated %d rows, %d of them with their indexes", all-before, cold-coldBefore)
	}
	beat("dr-b", messages.SpareState{Template: "room", Ready: 1, Claims: 1})
	info, ok, err := d.Template(t.Context(), "room")
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	want := []messages.TemplateDrone{{Drone: "dr-a", SpareState: said}, {Drone: "dr-b", SpareState: messages.SpareState{Template: "room", Ready: 1, Claims: 1}}}
	if diff := cmp.Diff(want, info.Drones); diff != "" || info.SparesReady != 3 || info.SparesStarting != 1 || info.Claims != 8 || info.Misses != 3 || info.Error != said.Error || info.MoreDrones {
		t.Errorf("%+v: %s", info, diff)
	}
	page, err := d.ListTemplates(t.Context(), &messages.ListTemplatesRequest{Page: messages.Page{Limit: 1}})
	if err != nil || len(page.Templates) != 1 || page.Templates[0].Name != "cold" || page.Templates[0].SparesReady != 0 || page.Next != "cold" {
		t.Errorf("%+v, %v", page, err)
	}
	page, err = d.ListTemplates(t.Context(), &messages.ListTemplatesRequest{Page: messages.Page{After: page.Next, Limit: 1}})
	if err != nil || len(page.Templates) != 1 || page.Templates[0].Name != "room" || page.Templates[0].SparesReady != 3 || page.Next != "" {
		t.Errorf("%+v, %v", page, err)
	}
	if spares := d.placeable("dr-a").Spares; spares["room"] != 2 || len(spares) != 1 {
		t.Errorf("placement knows of %v", spares)
	}
	drones, err := d.Drones(t.Context(), &messages.DronesRequest{Page: messages.Page{Limit: 9}})
	if err != nil || len(drones.Drones) != 2 || len(drones.Drones[0].Spares) != 10 || drones.Drones[0].Spares[9] != said {
		t.Errorf("%+v, %v", drones, err)
	}
	counts, err := d.SpareCounts(t.Context())
	if err != nil || len(counts) != 2 {
		t.Errorf("%+v, %v", counts, err)
	}
	beat("dr-a")
	if info, _, _ := d.Template(t.Context(), "room"); len(info.Drones) != 1 || info.SparesReady != 1 {
		t.Errorf("after the drone said that it has none: %+v", info)
	}
	testkit.Eventually(t, "a drone that is not heard any more has none", func() bool {
		d.exec(`update session set heard_at = now() - interval '61 seconds' where drone = 'dr-b'`)
		info, _, err := d.Template(t.Context(), "room")
		return err == nil && len(info.Drones) == 0
	})
}
