package socket

import (
	"net/http"
	"testing"

	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/testkit"
)

// The demand: a server that says that it can puts backends to sleep and wakes them, and its word that one is awake is heard. One that does not say so is not
// asked to.
func TestAServerPutsBackendsToSleep(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	r := s.runtime()
	if r.Sleeps() {
		t.Error("it sleeps, and has not said so")
	}
	changed, _ := r.Away()
	s.stream <- `{"listed":true,"sleeps":true}`
	testkit.Receive(t, changed, "it is told that something has changed")
	if !r.Sleeps() {
		t.Error("the server has said that it can put backends to sleep")
	}
	i := start(t, r, runtime.Spec{BackendID: "one"}).(runtime.Sleeper)
	woken := make(chan struct{}, 10)
	sleep := func() error { return i.Sleep(testkit.Context(t), func() { woken <- struct{}{} }) }

	s.refuses("sleep", http.StatusConflict, `{"error":"it holds a lock"}`)
	if err := sleep(); err == nil || err.Error() != "it holds a lock" {
		t.Errorf("a refusal reads %v", err)
	}
	s.says("sleep", `{}`)
	s.says("wake", `{}`)
	for range 2 {
		if err := sleep(); err != nil {
			t.Fatal(err)
		}
		if got := s.awaits("sleep"); got.Drone != "dr-a" || len(got.BackendIDs) != 1 || got.BackendIDs[0] != "one" {
			t.Errorf("asked for %+v", got)
		}
		if err := i.Wake(testkit.Context(t)); err != nil {
			t.Fatal(err)
		}
		s.awaits("wake")
	}
	s.stream <- `{"backend_id":"one"}` // which is no news
	if err := sleep(); err != nil {
		t.Fatal(err)
	}
	s.stream <- `{"backend_id":"one","asleep":true}`
	s.stream <- `{"backend_id":"one"}`
	testkit.Receive(t, woken, "it is said to be awake")

	s.stream <- `{"backend_id":"one","ended":{}}`
	testkit.Receive(t, i.Done(), "its end")
	s.refuses("wake", http.StatusNotFound, `{"error":"it has ended"}`)
	if err := i.Wake(testkit.Context(t)); err != nil {
		t.Errorf("wake after the end: %v", err)
	}
}
