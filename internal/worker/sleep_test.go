package worker_test

import (
	"slices"
	"testing"

	"github.com/jetway-project/jetway/messages"
)

// The demand, I3: sleep and wake reach the drone as actions and everybody as events, in the order of their naps; a route, a keepalive by which somebody is
// connected and a join wake, and a keepalive by which nobody is does not. What the drone cannot or must not put to sleep is refused.
func TestI3SleepAndWakeReachTheDroneAndWhoeverWatches(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	startWorker(t, w, "wo-a", options{})
	startWorker(t, w, "wo-b", options{})
	p := startPeer(t, w, "dr-a")
	backend := w.connect(spawnKey("doc"))
	id := backend.BackendID
	nap := func(subject string, want messages.NapResponse) {
		t.Helper()
		data, refusal := w.ask(subject, messages.NapRequest{BackendID: id})
		if refusal != nil {
			t.Fatalf("%s: %v", subject, refusal)
		}
		if got := as[messages.NapResponse](t, data); got != want {
			t.Errorf("%s: %+v, want %+v", subject, got, want)
		}
		p.awaitAction(id, messages.NapID(id, want.Nap))
	}
	refused := func(why string) {
		t.Helper()
		if _, refusal := w.ask(messages.SubjectSleep, messages.NapRequest{BackendID: id}); refusal == nil || refusal.Kind != messages.CannotSleep {
			t.Errorf("%s: %v", why, refusal)
		}
	}
	refused("it starts")
	p.report(id, messages.Ready)
	refused("its drone puts nothing to sleep")
	if _, refusal := w.ask(messages.RegisterSubject(p.name), messages.RegisterRequest{
		Session: p.session, MachineID: "m", BootID: "b", Cluster: cluster, DroneTimeMS: p.clock.Add(1), Backends: []string{id}, Sleeps: true,
	}); refusal != nil {
		t.Fatal(refusal)
	}

	nap(messages.SubjectSleep, messages.NapResponse{Asleep: true, Nap: 1})
	said := stateOf(id, messages.Ready)
	said.Nap = messages.Nap{Nap: 1, Asleep: true, ReclaimedBytes: 4096}
	if refusal := p.tryReport(said); refusal != nil {
		t.Fatal(refusal)
	}
	if n := w.count("outbox where backend_id = $1", id); n != 0 {
		t.Errorf("%d rows are on record after the drone said that it has applied the nap", n)
	}
	data, _ := w.ask(messages.SubjectStatus, messages.StatusRequest{BackendID: id})
	if b := as[messages.BackendInfo](t, data); b.Nap != said.Nap || b.Status != messages.Ready {
		t.Errorf("its status is %+v", b)
	}
	route := func() messages.RouteResponse {
		t.Helper()
		data, refusal := w.ask(messages.RouteSubject("px-a"), messages.RouteRequest{Token: backend.Token})
		if refusal != nil {
			t.Fatal(refusal)
		}
		return as[messages.RouteResponse](t, data)
	}
	if r := route(); !r.Asleep || !r.Sleeps {
		t.Errorf("the route is %+v", r)
	}
	p.awaitAction(id, messages.NapID(id, 2))
	if r := route(); r.Asleep || !r.Sleeps {
		t.Errorf("the second route is %+v", r)
	}

	keepalive := func(idle int64) {
		t.Helper()
		if _, refusal := w.ask(messages.KeepaliveSubject("px-a"), messages.KeepaliveRequest{Backends: []string{id}, IdleMS: []int64{idle}}); refusal != nil {
			t.Fatal(refusal)
		}
	}
	nap(messages.SubjectSleep, messages.NapResponse{Asleep: true, Nap: 3})
	keepalive(1000)
	nap(messages.SubjectSleep, messages.NapResponse{Asleep: true, Nap: 3})
	keepalive(0)
	p.awaitAction(id, messages.NapID(id, 4))
	nap(messages.SubjectSleep, messages.NapResponse{Asleep: true, Nap: 5})
	w.connect(spawnKey("doc"))
	p.awaitAction(id, messages.NapID(id, 6))
	nap(messages.SubjectWake, messages.NapResponse{Nap: 6})

	var published []int64
	for _, msg := range napsOf(t, w, id) {
		published = append(published, msg.Nap)
	}
	if !slices.Equal(published, []int64{1, 2, 3, 4, 5, 6}) {
		t.Errorf("events of naps %d", published)
	}
	if got := numbers(t, w, id); !slices.Equal(got, []messages.Status{messages.Scheduled, messages.Ready}) {
		t.Errorf("sleep is no status, and the events are %v", got)
	}
}

// napsOf gives the events of a backend's sleep, by their naps.
func napsOf(t *testing.T, w *world, id string) (list []messages.SleepEvent) {
	t.Helper()
	for _, msg := range events(t, w, messages.SleepEventSubject(id)) {
		event, err := messages.Decode[messages.SleepEvent](msg.Data)
		if err != nil {
			t.Errorf("%s: %v", msg.Data, err)
		}
		list = append(list, event)
	}
	slices.SortFunc(list, func(a, b messages.SleepEvent) int { return int(a.Nap - b.Nap) })
	return list
}
