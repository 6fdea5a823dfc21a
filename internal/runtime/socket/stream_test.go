package socket

import (
	"net/http"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/testkit"
)

// I1, I8: the stream breaks off, whatever the server does to it. Nothing is started meanwhile, why is
// said, nothing ends by that, and all goes on when the server does.
func TestI1I8TheStreamBreaksOff(t *testing.T) {
	t.Parallel()
	for name, odd := range map[string]struct {
		does func(http.ResponseWriter, *http.Request, request)
		want string
	}{
		"garbage":         {text(http.StatusOK, "<html>\n"), "not what it should be"},
		"a mark too long": {text(http.StatusOK, `{"at":"`+strings.Repeat("x", maxMark+1)+"\"}\n"), "not what it should be"},
		"a long line":     {endless(t), "is longer than"},
		"an error":        {text(http.StatusInternalServerError, "oops"), "it answers 500"},
		"nothing to tell": {text(http.StatusOK, ""), "in the middle"},
		"half a line":     {text(http.StatusOK, `{"backend_id":`), "in the middle"},
		"silence": {func(w http.ResponseWriter, r *http.Request, _ request) {
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, "nothing was heard"},
		"not even a head": {func(_ http.ResponseWriter, r *http.Request, _ request) { <-r.Context().Done() }, "nothing was heard"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			r := s.runtime()
			i := start(t, r, runtime.Spec{BackendID: "one"})
			s.list(`{"backend_id":"one"}`)
			s.does("events", odd.does)
			s.stream <- "break"
			awaitAway(t, r, odd.want)
			if _, err := r.Start(testkit.Context(t), runtime.Spec{BackendID: "two"}); err == nil || !strings.Contains(err.Error(), odd.want) {
				t.Errorf("a start says %v", err)
			}
			s.does("events", s.events)
			awaitAway(t, r, "")
			if !running(i) {
				t.Errorf("it ended: %s", i.Exit())
			}
			s.stream <- `{"backend_id":"one","ended":{}}`
			testkit.Receive(t, i.Done(), "the end")
		})
	}
}

// I1, I6: a server that comes back without a backend says by that that it does not run; one whose
// start it has not answered yet is not meant.
func TestI1I6WhatAListingDoesNotName(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	r := s.runtime()
	one, two, three := start(t, r, runtime.Spec{BackendID: "one"}), start(t, r, runtime.Spec{BackendID: "two"}), start(t, r, runtime.Spec{BackendID: "three"})
	answer, under := make(chan struct{}), make(chan struct{})
	s.does("start", func(w http.ResponseWriter, r *http.Request, ask request) {
		close(under)
		<-answer
		text(http.StatusOK, `{}`)(w, r, ask)
	})
	started := make(chan runtime.Instance, 1)
	go func() {
		i, err := r.Start(testkit.Context(t), runtime.Spec{BackendID: "four"})
		if err != nil {
			t.Error(err)
		}
		started <- i
	}()
	testkit.Receive(t, under, "the start")
	s.list(`{"backend_id":"one","address":"x:1"}`, `{"backend_id":"two","ended":{"exit_code":2}}`)
	s.stream <- "break"
	testkit.Receive(t, two.Done(), "the end of who is listed as ended")
	testkit.Receive(t, three.Done(), "the end of who is not listed")
	if two.Exit().Code != 2 || three.Exit() != unknown {
		t.Errorf("ended as %s and %s", two.Exit(), three.Exit())
	}
	close(answer)
	if four := testkit.Receive(t, started, "the answer to the start"); !running(one) || !running(four) {
		t.Errorf("what runs is held to have ended: %s, %s", one.Exit(), four.Exit())
	}
}

// The demand: no line is lost, nor told twice, when the stream breaks off or the agent is started
// anew: it goes on behind the mark of the last line.
func TestTheStreamGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	state := t.TempDir()
	before := s.fresh(state)
	if _, err := before.Find(testkit.Context(t)); err != nil {
		t.Fatal(err)
	}
	if got := s.awaits("events"); got.Drone != "dr-a" || got.After != "" {
		t.Errorf("asked for %+v", got)
	}
	awaitAway(t, before, "")
	log, said := lines()
	start(t, before, runtime.Spec{BackendID: "one", Log: log})
	s.list(`{"backend_id":"one"}`)
	s.stream <- `{"at":"e-1","backend_id":"one","stream":"stdout","line":"first"}`
	testkit.Receive(t, said, "the first line")
	s.stream <- "break"
	if got := s.awaits("events"); got.After != "e-1" {
		t.Errorf("asked for %+v", got)
	}
	s.stream <- `{"at":"e-2","backend_id":"one","stream":"stdout","line":"second"}`
	testkit.Receive(t, said, "the second line")
	s.stream <- `{}`
	testkit.Eventually(t, "the mark is noted", func() bool { return s.fresh(state).mark == "e-2" })
	if err := before.Close(); err != nil {
		t.Error(err)
	}
	after := s.fresh(state)
	s.says("find", `{"backends":[{"backend_id":"one"}]}`)
	if _, err := after.Adopt(testkit.Context(t), runtime.Spec{BackendID: "one", Log: log}, ""); err != nil {
		t.Fatal(err)
	}
	if got := s.awaits("find"); got.After != "e-2" {
		t.Errorf("asked for %+v", got)
	}
	s.list(`{"at":"e-3","backend_id":"one","stream":"stdout","line":"third"}`, `{"backend_id":"one"}`)
	if _, err := after.Find(testkit.Context(t)); err != nil {
		t.Fatal(err)
	}
	if got := s.awaits("events"); got.After != "e-2" {
		t.Errorf("asked for %+v", got)
	}
	if got := testkit.Receive(t, said, "the third line"); got != "stdout third" {
		t.Error(got)
	}
}

// The demand: what a server has not been told to forget, for it was away, it is told later.
func TestForgettingIsTriedAgain(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	r := s.runtime()
	i := start(t, r, runtime.Spec{BackendID: "one"})
	s.refuses("forget", http.StatusInternalServerError, `{"error":"not now"}`)
	s.stream <- `{"backend_id":"one","ended":{"exit_code":0}}`
	testkit.Receive(t, i.Done(), "the end")
	s.awaits("forget")
	s.awaits("forget")
	s.says("forget", `{}`)
	testkit.Eventually(t, "nothing is left to forget", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.over) == 0
	})
}

// I8: a backend that floods its output is cut short, and says so while it is silent.
func TestI8AFloodOfOutput(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	r := s.runtime()
	log, said := lines()
	start(t, r, runtime.Spec{BackendID: "one", Log: log})
	line := `{"backend_id":"one","stream":"stdout","line":"` + strings.Repeat("x", 8000) + `"}`
	go func() {
		for range 200 { // 1.6 MB
			s.stream <- line
		}
	}()
	for {
		if got := testkit.Receive(t, said, "the notice"); strings.HasPrefix(got, "notice ") {
			break
		}
	}
}
