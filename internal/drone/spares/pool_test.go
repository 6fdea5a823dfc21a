package spares_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/drone/spares"
	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/fake"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

func TestI1SpareIsClaimedOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, takes)
	r.set(r.of("room", 20))
	r.awaitReady("room", 20)
	var mu sync.Mutex
	var wg sync.WaitGroup
	taken := map[string]int{}
	for range 40 {
		wg.Go(func() {
			if s := r.Take("room", 1); s != nil {
				mu.Lock()
				defer mu.Unlock()
				taken[s.ID]++
			}
		})
	}
	wg.Wait()
	for id, n := range taken {
		if n > 1 {
			t.Errorf("I1: %s was taken %d times", id, n)
		}
	}
	if len(taken) < 20 {
		t.Errorf("%d of 20 were taken", len(taken))
	}
	r.awaitReady("room", 20)
	r.awaitLive(20 + len(taken))
	state := r.awaits("room", "misses are counted", func(s messages.SpareState) bool { return s.Misses == int64(40-len(taken)) })
	if state.Claims != 0 {
		t.Errorf("%d claims are counted, and none was made", state.Claims)
	}
}

// Whatever the answer to a claim is: either the spare is the backend, or it is dead when that is said.
func TestI1SpareIsTheBackendOrDeadWhateverItAnswers(t *testing.T) {
	t.Parallel()
	big := strings.Repeat("x", 1<<20)
	pour := func(w http.ResponseWriter) {
		for range 100 {
			if _, err := w.Write([]byte(big)); err != nil {
				return
			}
		}
	}
	released := make(chan struct{})
	t.Cleanup(func() { close(released) })
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		why    string // "": it is the backend
	}{
		"200":      {takes, ""},
		"204":      {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }, ""},
		"100 MB":   {func(w http.ResponseWriter, _ *http.Request) { pour(w) }, ""},
		"500":      {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no room", http.StatusInternalServerError) }, "500 Internal Server Error, and not with a status 200 to 299: \"no room\\n\""},
		"404":      {http.NotFound, "404"},
		"redirect": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) }, "302"},
		"500 of 100 MB": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			pour(w)
		}, "500"},
		"hangs up": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
		"never": {func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-r.Context().Done(): // seen once the body is read
			case <-released:
			}
		}, "within 2s"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
				if req.URL.Path != "/claim" {
					t.Errorf("asked for %s", req.URL)
				}
				_, _ = io.Copy(io.Discard, req.Body)
				c.answer(w, req)
			})
			r.set(r.of("room", 1))
			r.awaitReady("room", 1)
			s := r.Take("room", 1)
			if s == nil {
				t.Fatal("there is none")
			}
			r.set() // the template is deleted meanwhile
			var said []string
			err := s.Claim(t.Context(), t.Context(), "/claim", spares.Claim{BackendID: "b"}, func(l runtime.Line) { said = append(said, l.Text) })
			over := runtime.Over(s.Instance().Done())
			switch {
			case c.why == "" && (err != nil || over):
				t.Errorf("it is not the backend: %v, ended: %v", err, over)
			case c.why != "" && (err == nil || !strings.Contains(err.Error(), c.why)):
				t.Errorf("the error is %v, without %q", err, c.why)
			case c.why != "" && !over:
				t.Error("I1: it runs on, and may answer yet")
			}
			if len(said) != 1 || said[0] != "loaded" {
				t.Errorf("its output before the claim is %q", said)
			}
		})
	}
}

func TestChangedTemplateHasOtherSpares(t *testing.T) {
	t.Parallel()
	r := newRig(t, takes)
	r.set(r.of("room", 2))
	r.awaitReady("room", 2)
	s := r.Take("room", 1)
	old := map[string]bool{}
	for _, i := range r.rt.Live() {
		old[i.BackendID()] = true
	}
	r.awaitReady("room", 2)
	before := r.ids()
	r.set(r.of("room", 3)) // no other program
	r.awaitReady("room", 3)
	for id := range before {
		if !r.ids()[id] {
			t.Errorf("%s was ended for nothing", id)
		}
	}
	if r.Take("room", 1) != nil {
		t.Error("one of another revision was given")
	}
	r.set(r.of("room", 3, func(s *fake.Script) { s.Print = []string{"version 2"} }))
	r.awaitReady("room", 3)
	r.awaitLive(4)
	for id := range before {
		if r.ids()[id] && id != s.ID {
			t.Errorf("%s of the old program runs on", id)
		}
	}
	if runtime.Over(s.Instance().Done()) {
		t.Error("what is a backend was ended")
	}
	r.set()
	r.awaitLive(1)
}

func (r *rig) ids() map[string]bool {
	ids := map[string]bool{}
	for _, i := range r.rt.Live() {
		ids[i.BackendID()] = true
	}
	return ids
}

func TestSpareThatDiesIsReplacedAfterAPause(t *testing.T) {
	t.Parallel()
	r := newRig(t, takes)
	r.set(
		r.of("well", 1),
		r.of("dies", 3, func(s *fake.Script) { s.Address, s.RunFor, s.ExitCode = "", fake.Duration(time.Millisecond), 3 }),
		r.of("cannot", 3, func(s *fake.Script) { s.StartError = "no such image" }),
	)
	r.awaits("dies", "why it died", func(s messages.SpareState) bool { return s.Error != "" && s.Ready == 0 })
	r.awaits("cannot", "why it did not start", func(s messages.SpareState) bool { return s.Error == "no such image" })
	r.awaitReady("well", 1)
	for _, i := range r.rt.Live() {
		i.End(runtime.Exit{Code: 4})
	}
	r.awaits("well", "why it died", func(s messages.SpareState) bool {
		return strings.Contains(s.Error, "exit code 4") && strings.Contains(s.Error, "loaded")
	})
	r.awaitReady("well", 1)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.started > 40 {
		t.Errorf("I8: %d starts", r.started)
	}
}

func TestSpareThatNeverAnswersIsGivenUp(t *testing.T) {
	t.Parallel()
	r := newRig(t, takes)
	r.mute = true
	r.set(r.of("room", 1))
	state := r.awaits("room", "what it met", func(s messages.SpareState) bool { return s.Error != "" })
	if !strings.Contains(state.Error, "connection refused") || !strings.Contains(state.Error, "did not answer HTTP at "+r.address) {
		t.Errorf("the error says %q", state.Error)
	}
	testkit.Eventually(t, "it is ended", func() bool { return len(r.rt.Live()) == 0 })
}

func TestI8SparesGiveWayUntilWhatIsLeftFits(t *testing.T) {
	t.Parallel()
	r := newRig(t, takes)
	r.leave(spares.Room{Instances: 100, Demands: runtime.Demands{MemoryBytes: 1000, CPUMillis: 1000}})
	r.set(
		r.of("large", 9, func(s *fake.Script) { s.MemoryBytes = 300 }),
		r.of("small", 2),
	)
	r.awaitReady("small", 2)
	r.awaitReady("large", 3)
	r.awaits("large", "that there is no room for more", func(s messages.SpareState) bool { return strings.Contains(s.Error, "no room") })
	r.leave(spares.Room{Instances: 100, Demands: runtime.Demands{MemoryBytes: 500, CPUMillis: 1000}})
	r.GiveWay(t.Context())
	if n := len(r.rt.Live()); n > 3 {
		t.Errorf("%d run, of which 3 fit", n)
	}
	r.leave(spares.Room{Demands: runtime.Demands{MemoryBytes: 500, CPUMillis: 1000}})
	r.GiveWay(t.Context())
	if n := len(r.rt.Live()); n > 0 {
		t.Errorf("%d run, and there is room for none", n)
	}
	r.leave(spares.Room{Instances: 4, Demands: runtime.Demands{MemoryBytes: 600, CPUMillis: 1000}})
	r.Wake()
	r.awaitLive(4)
}

func (r *rig) leave(room spares.Room) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.room = room
}

// While somebody waits for a start, spares hardly do.
func TestRefillingYieldsToStarts(t *testing.T) {
	t.Parallel()
	r := newRig(t, takes)
	over := r.Yield()
	r.set(r.of("room", 20))
	r.awaits("room", "one is started", func(s messages.SpareState) bool { return s.Ready == 1 })
	r.mu.Lock()
	started := r.started
	r.mu.Unlock()
	if started > 2 {
		t.Errorf("%d were started meanwhile", started)
	}
	over()
	r.awaitReady("room", 20)
	r.Hold(true)
	r.awaitLive(0)
	r.Hold(false)
	r.awaitReady("room", 20)
}

// A claim that is given up because its backend is to end leaves nothing of the spare.
func TestI1ClaimThatIsGivenUpLeavesNothing(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{}, 1)
	r := newRig(t, func(_ http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		asked <- struct{}{}
		<-req.Context().Done()
	})
	r.set(r.of("room", 1))
	r.awaitReady("room", 1)
	s := r.Take("room", 1)
	start, abort := context.WithCancel(t.Context())
	go func() {
		<-asked
		abort()
	}()
	if err := s.Claim(t.Context(), start, "/claim", spares.Claim{}, func(runtime.Line) {}); err == nil {
		t.Error("it is the backend")
	}
	if !runtime.Over(s.Instance().Done()) {
		t.Error("I1: it runs on")
	}
}
