package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/internal/outbox"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/messages"
)

// lossy is the real publisher, except that the first tries of some messages fail
// before they are sent.
type lossy struct {
	outbox.Publisher

	mu    sync.Mutex
	fail  map[string]int // tries still to fail, by message id
	tries map[string]int
	sent  map[string]int
	lost  map[string]int // tries that failed, by backend
}

var errLost = errors.New("lost on purpose")

func newLossy(t *testing.T, url string) *lossy {
	t.Helper()
	p, err := bus.NewPublisher(natstest.Conn(t, url))
	if err != nil {
		t.Fatal(err)
	}
	return &lossy{Publisher: p, fail: map[string]int{}, tries: map[string]int{}, sent: map[string]int{}, lost: map[string]int{}}
}

func (l *lossy) Publish(msgs []*nats.Msg) func(context.Context) []error {
	pass, at, errs := l.pass(msgs)
	acks := l.Publisher.Publish(pass)
	return func(ctx context.Context) []error {
		for i, err := range acks(ctx) {
			errs[at[i]] = err
			if err != nil {
				l.lose(pass[i])
			}
		}
		return errs
	}
}

func (l *lossy) Send(msgs []*nats.Msg) error {
	pass, _, errs := l.pass(msgs)
	return errors.Join(l.Publisher.Send(pass), errors.Join(errs...))
}

// pass gives the messages that do not fail, where among all they were, and for all
// of them what went wrong.
func (l *lossy) pass(msgs []*nats.Msg) (pass []*nats.Msg, at []int, errs []error) {
	errs = make([]error, len(msgs))
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, m := range msgs {
		id := m.Header.Get(messages.HeaderMessageID)
		l.tries[id]++
		if l.fail[id] > 0 {
			l.fail[id]--
			l.lost[backendOf(id)]++
			errs[i] = errLost
			continue
		}
		l.sent[id]++
		pass, at = append(pass, m), append(at, i)
	}
	return pass, at, errs
}

// failing has the next n publications of a message fail.
func (l *lossy) failing(id string, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fail[id] = n
}

func (l *lossy) wasSent(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sent[id] > 0
}

func (l *lossy) lose(m *nats.Msg) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lost[backendOf(m.Header.Get(messages.HeaderMessageID))]++
}

func backendOf(id string) string {
	backend, _, _ := strings.Cut(id, ".")
	return backend
}

// losses are the tries that failed for a backend.
func (l *lossy) losses(backend string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost[backend]
}

// byBackend are the ids on the bus of each backend, in the order of the stream.
func byBackend(all []said) map[string][]string {
	m := make(map[string][]string)
	for _, id := range ids(all) {
		m[backendOf(id)] = append(m[backendOf(id)], id)
	}
	return m
}

func statesOf(id string, statuses ...messages.Status) (list []string) {
	for _, s := range statuses {
		list = append(list, fmt.Sprintf("%s.%d", id, s))
	}
	return list
}

// wholeLife are the states that a process of its own accord goes through.
var wholeLife = []messages.Status{messages.Loading, messages.Starting, messages.Waiting, messages.Ready, messages.Terminated}

func TestI5StatesAfterOneThatFailedWaitForItAndThoseOfOthersDoNot(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	p := newLossy(t, r.url)
	relay, _ := r.relayOver(p)
	var rows []outbox.Row
	for _, id := range []string{"b-1", "b-2", "b-3"} {
		if err := relay.Publish(t.Context(), r.connect(id, id)); err != nil {
			t.Fatal(err)
		}
		rows = append(rows, r.report(id, wholeLife...)...)
	}
	p.failing("b-2.30", 1)
	if err := relay.Publish(t.Context(), rows); !errors.Is(err, errLost) {
		t.Fatalf("one state failed: %v", err)
	}
	scheduled := []messages.Status{messages.Scheduled}
	all := append(scheduled, wholeLife...)
	want := map[string][]string{"b-1": statesOf("b-1", all...), "b-2": {"b-2.10", "b-2.20"}, "b-3": statesOf("b-3", all...)}
	if got := byBackend(r.stream(messages.StreamEvents)); !maps.EqualFunc(got, want, slices.Equal) {
		t.Fatalf("on the bus: %v, want %v", got, want)
	}
	if left := r.left(); !slices.Equal(left, []string{"state b-2 30", "state b-2 40", "state b-2 50", "state b-2 70"}) {
		t.Errorf("on record: %v", left)
	}
	relay.Heal(true)
	want["b-2"] = statesOf("b-2", all...)
	testkit.Eventually(t, "the outbox is empty", func() bool { return len(r.left()) == 0 })
	if got := byBackend(r.stream(messages.StreamEvents)); !maps.EqualFunc(got, want, slices.Equal) {
		t.Errorf("on the bus at last: %v, want %v", got, want)
	}
}

// Two workers, twelve drones' worth of reports at once, and every third backend's
// messages fail, some more than once.
//
// Each action comes once, because nothing is taken from a relay that has it in hand: no time
// passes for the outbox, and what has failed falls due once for each failure. (A row that
// falls due while a slow relay has it in hand is published by another one too, as the outbox
// may: its action then is in the stream twice, with one id, and its drone takes it once.)
func TestI5I3ManyBackendsOfWhichSomeFail(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	raw := r.stopTime()
	p := newLossy(t, r.url)
	first, _ := r.relayOver(p)
	second, _ := r.relayOver(p)
	relays := []*outbox.Relay{first, second}

	const backends = 12
	name := func(i int) string { return fmt.Sprintf("b-%d", i) }
	for i := 0; i < backends; i += 3 {
		for n, id := range append(statesOf(name(i), messages.Scheduled, messages.Loading, messages.Waiting, messages.Terminated), name(i)+".spawn") {
			p.failing(id, 1+(i+n)%3)
		}
	}
	// redo makes what is left of one backend fall due, for a relay to find, if something of it
	// has failed since: each try fails once, or does it all.
	redone := make([]int, backends)
	redo := func(i int) {
		lost := p.losses(name(i))
		if lost == redone[i] {
			return
		}
		redone[i] = lost
		if _, err := raw.Exec(t.Context(), `update outbox set due_at = now() where backend_id = $1`, name(i)); err != nil {
			t.Error(err)
		}
		for _, relay := range relays {
			relay.Heal(false)
		}
	}
	var wg sync.WaitGroup
	for i := range backends {
		wg.Go(func() {
			id := name(i)
			faulty := i%3 == 0
			publish := func(n int, rows []outbox.Row) {
				if err := relays[(i+n)%2].Publish(t.Context(), rows); err != nil && !(faulty && errors.Is(err, errLost)) {
					t.Errorf("%s: %v", id, err)
				}
			}
			publish(0, r.connect(id, id))
			// A drone reports only what it was told to run.
			testkit.Eventually(t, id+" is told to its drone", func() bool {
				redo(i)
				return p.wasSent(id + ".spawn")
			})
			publish(1, r.report(id, wholeLife[:1+i%3]...))
			publish(2, r.report(id, wholeLife[1+i%3:]...))
		})
	}
	wg.Wait()
	testkit.Eventually(t, "the outbox is empty", func() bool {
		for i := 0; i < backends; i += 3 {
			redo(i)
		}
		var left int
		if err := raw.QueryRow(t.Context(), `select count(*) from outbox`).Scan(&left); err != nil {
			t.Fatal(err)
		}
		return left == 0
	})

	testkit.Eventually(t, "all actions are in the stream", func() bool { return len(r.stream(messages.StreamActions)) >= backends })
	events := byBackend(r.stream(messages.StreamEvents))
	actions := byBackend(r.stream(messages.StreamActions))
	for i := range backends {
		id := name(i)
		want := statesOf(id, append([]messages.Status{messages.Scheduled}, wholeLife...)...)
		if !slices.Equal(events[id], want) {
			t.Errorf("events on the bus: %v, want %v", events[id], want)
		}
		if !slices.Equal(actions[id], []string{id + ".spawn"}) {
			t.Errorf("actions on the bus of %s: %v", id, actions[id])
		}
		if i%3 == 0 {
			continue
		}
		for _, message := range append(want, id+".spawn") {
			if n := p.tries[message]; n != 1 {
				t.Errorf("%s, which met no fault, was published %d times", message, n)
			}
		}
	}
}
