package conformance_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"testing"

	"github.com/jetway-project/jetway/internal/conformance"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/messages"
)

// freezable is what a backend answers: nothing while it sleeps.
func (s *stranger) freezable(b *server) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		frozen := b.frozen
		s.mu.Unlock()
		if frozen != nil {
			select {
			case <-frozen:
			case <-r.Context().Done():
			}
		}
		http.NotFound(w, r)
	})
}

// napLocked freezes and thaws by the greatest nap.
func (s *stranger) napLocked(id string, nap int64) {
	b := s.backends[id]
	if b == nil || nap <= b.nap && s.fault != "old-nap" {
		return
	}
	b.nap = nap
	switch sleeps := messages.AsleepAt(nap); {
	case sleeps && b.frozen == nil && s.fault != "sleep":
		b.frozen = make(chan struct{})
	case !sleeps && b.frozen != nil && s.fault != "wake":
		close(b.frozen)
		b.frozen = nil
	}
	s.tellNapLocked(id)
}

func (s *stranger) tellNapLocked(id string) {
	b := s.backends[id]
	s.queueLocked(id, messages.State{Status: messages.Ready, Address: b.addr})
	s.reports[len(s.reports)-1].Nap = messages.Nap{Nap: b.nap, Asleep: messages.AsleepAt(b.nap)}
}

// retellNaps says all naps again to workers that may have forgotten them.
func (s *stranger) retellNaps() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, b := range s.backends {
		if b.nap > 0 && s.fault != "nap-repeated" {
			s.tellNapLocked(id)
		}
	}
}

// The demand: a drone that does not say that it puts backends to sleep is not asked to, and fails nothing for that.
func TestADroneThatDoesNotSleepIsNotAskedTo(t *testing.T) {
	t.Parallel()
	url := natstest.Server(t).URL()
	nc := natstest.Conn(t, url)
	asked, err := nc.SubscribeSync(messages.ActionSubject("dr-awake"))
	if err != nil {
		t.Fatal(err)
	}
	runStranger(t, nc, "dr-awake", "no-sleep")
	var sleep []string
	for _, check := range conformance.DroneChecks() {
		if check.Section == "sleep" {
			sleep = append(sleep, check.ID)
		}
	}
	seen := 0
	err = conformance.Drone{
		Name: "dr-awake", Executable: json.RawMessage(`{}`), Lease: lease, Wait: testkit.Patience, Slack: testkit.Patience, Only: []string{"sleep", "wake", "sleep-ends"},
		Say: func(r conformance.Result) {
			t.Logf("%s %s: %s", r.Verdict, r.Check, r.Why)
			want := conformance.Pass
			if slices.Contains(sleep, r.Check) {
				seen, want = seen+1, conformance.Skip
			}
			if r.Verdict != want {
				t.Errorf("%s: %s, want %s: %s", r.Check, r.Verdict, want, r.Why)
			}
		},
	}.Run(t.Context(), natstest.Conn(t, url))
	if err != nil || seen != 3 {
		t.Errorf("%d checks of sleep, %v", seen, err)
	}
	for n, _, _ := asked.Pending(); n > 0; n-- {
		msg, err := asked.NextMsgWithContext(testkit.Context(t))
		if err != nil {
			t.Fatal(err)
		}
		if a, err := messages.Decode[messages.Action](msg.Data); err == nil && a.Nap != 0 {
			t.Errorf("it is sent %s", msg.Data)
		}
	}
}
