package store_test

import (
	"slices"
	"testing"

	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/messages"
)

func TestRegisterAdoptsWhatRunsAndNamesTheRestOrphans(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	d.drone("dr-b")
	for _, id := range []string{"b-runs", "b-gone", "b-expired", "b-ended"} {
		d.spawn(id, id, "dr-a")
	}
	d.spawn("other", "b-other", "dr-b")
	d.expire("b-expired")
	d.transition(reported("b-ended", messages.Terminated))

	for range 2 { // a repeated registration is the same
		held, orphans := d.register("dr-a", "s-2", "b-runs", "b-expired", "b-ended", "b-other", "b-unknown")
		slices.Sort(orphans)
		// What is sealed stays its own until it has ended, or its lease has.
		if !slices.Equal(held, []string{"b-runs"}) || !slices.Equal(orphans, []string{"b-gone"}) {
			t.Fatalf("held %v, orphans %v", held, orphans)
		}
	}
	if renewed := d.renew("dr-a", "s-2", "b-runs", "b-gone"); !slices.Equal(renewed, []string{"b-runs"}) {
		t.Errorf("the new session renewed %v", renewed)
	}
	if renewed := d.renew("dr-b", session, "b-other"); len(renewed) != 1 {
		t.Error("another drone's backend was adopted")
	}
}

// I1: what the drone still runs when it begins anew, though its lease may not be renewed,
// keeps it until the drone says that it has ended it. Found by torture: the key was free
// at once, and the next backend ran before the drone had the reply.
func TestI1RegisteredBackendKeepsALeaseThatMayNotBeRenewed(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	d.spawn("doc", "b-1", "dr-a")
	d.transition(reported("b-1", messages.Ready))
	d.exec(`update lease set sealed_until = now() + interval '1 minute'`)

	held, orphans := d.register("dr-a", "s-2", "b-1")
	if len(held) > 0 || len(orphans) > 0 {
		t.Fatalf("held %v, orphans %v", held, orphans)
	}
	if got, _ := d.connect(want("doc", "b-2", "dr-a")); got[0].Result != lease.Held || got[0].BackendID != "b-1" {
		t.Fatalf("a connect gets %+v", got[0])
	}
	if renewed := d.renew("dr-a", "s-2", "b-1"); len(renewed) > 0 {
		t.Errorf("renewed %v", renewed)
	}
	_, foreign, err := d.Transition(t.Context(), &store.Holder{Drone: "dr-a", Session: "s-2"}, []store.Change{reported("b-1", messages.Terminated)})
	if err != nil || len(foreign) > 0 {
		t.Fatalf("the report of its end: foreign %v, %v", foreign, err)
	}
	if n := one[int](d, `select count(*) from lease where released_at is null`); n != 0 {
		t.Error("its end did not release the lease")
	}
}

func TestHeartbeatOfAnUnknownSessionRenewsNothing(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	d.spawn("k", "b-1", "dr-a")
	for drone, session := range map[string]string{"dr-a": "s-0", "dr-none": session} {
		heard, err := d.Heartbeat(t.Context(), drone, &messages.HeartbeatRequest{Session: session})
		if err != nil || heard.Known {
			t.Errorf("%s, %s: heard %+v, %v", drone, session, heard, err)
		}
	}
}

func TestRoutesLeadToLivingBackendsOnly(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	static := want("k-2", "b-2", "dr-a")
	static.Spawn.StaticToken, static.Spawn.StaticHash = "sealed", lease.HashToken("s.static")
	d.connect(want("k-1", "b-1", "dr-a"), static, want("k-3", "b-3", "dr-a"), want("k-4", "b-4", "dr-a"))
	d.transition(reported("b-4", messages.Terminated))
	d.exec(`update token set expires_at = now() where backend_id = 'b-3'`)

	tokens := []string{"token-of-b-1", "s.static", "token-of-b-2", "token-of-b-3", "token-of-b-4", "wrong", "s.", "s.wrong", ""}
	routes, err := d.Routes(t.Context(), tokens)
	if err != nil || len(routes) != len(tokens) {
		t.Fatal(len(routes), err)
	}
	for i, r := range routes {
		if (r != nil) != (i < 2) {
			t.Errorf("token %q: %+v", tokens[i], r)
		}
	}
	if r := routes[0]; r == nil || r.BackendID != "b-1" || r.User != "u" || string(r.Auth) != `{"a":"\u0000"}` || r.SecretToken != "secret" || r.ValidForMS < 3_500_000 || r.ValidForMS > 3_600_000 {
		t.Errorf("dynamic: %+v", r)
	}
	if r := routes[1]; r == nil || r.BackendID != "b-2" || r.SecretToken != "" || r.ValidForMS != 0 {
		t.Errorf("static: %+v", r)
	}
	d.transition(reported("b-2", messages.Terminated))
	if routes, err = d.Routes(t.Context(), []string{"s.static"}); err != nil || routes[0] != nil {
		t.Errorf("an ended backend's static token: %+v, %v", routes[0], err)
	}
}

func TestKeepaliveIsForLivingBackends(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.drone("dr-a")
	d.spawn("k-1", "b-1", "dr-a")
	d.spawn("k-2", "b-2", "dr-a")
	d.transition(reported("b-2", messages.Terminated))
	if err := d.Keepalive(t.Context(), "px-a", []string{"b-2", "b-1", "b-none", "b-1"}, nil); err != nil {
		t.Fatal(err)
	}
	if got := one[string](d, `select string_agg(backend_id || ' ' || proxy, ',') from connection`); got != "b-1 px-a" {
		t.Errorf("kept alive: %s", got)
	}
}

func TestListsComeInPages(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	for _, n := range []string{"1", "2", "3"} {
		d.drone("dr-" + n)
		d.spawn("k-"+n, "b-"+n, "dr-"+n)
	}
	d.transition(reported("b-2", messages.Terminated))
	for _, c := range []struct {
		r    messages.BackendsRequest
		ids  []string
		next string
	}{
		{messages.BackendsRequest{Page: messages.Page{Limit: 1}}, []string{"b-1"}, "b-1"},
		{messages.BackendsRequest{Page: messages.Page{Limit: 1, After: "b-1"}}, []string{"b-3"}, ""},
		{messages.BackendsRequest{All: true, Page: messages.Page{Limit: 3}}, []string{"b-1", "b-2", "b-3"}, ""},
		{messages.BackendsRequest{Drone: "dr-3", Page: messages.Page{Limit: 3}}, []string{"b-3"}, ""},
	} {
		resp, err := d.Backends(t.Context(), &c.r)
		var ids []string
		for _, b := range resp.Backends {
			ids = append(ids, b.BackendID)
		}
		if err != nil || !slices.Equal(ids, c.ids) || resp.Next != c.next {
			t.Errorf("%+v: %v, next %q, %v", c.r, ids, resp.Next, err)
		}
	}
	drones, err := d.Drones(t.Context(), &messages.DronesRequest{Page: messages.Page{After: "dr-1", Limit: 1}})
	if err != nil || len(drones.Drones) != 1 || drones.Drones[0].Drone != "dr-2" || drones.Drones[0].Backends != 0 || drones.Next != "dr-2" {
		t.Errorf("drones: %+v, %v", drones, err)
	}
}
