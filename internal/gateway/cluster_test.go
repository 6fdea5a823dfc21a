package gateway_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/internal/gateway"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/messages"
)

// lives are the states of backends, as a worker knows them before they are published.
type lives struct {
	mu sync.Mutex
	of map[string]messages.Status
}

func (l *lives) set(backend string, status messages.Status) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.of[backend] = status
}

func (l *lives) answer(m *nats.Msg) {
	req, err := messages.Decode[messages.StatusRequest](m.Data)
	if err != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	answerWith(messages.BackendInfo{BackendID: req.BackendID, State: messages.State{Status: l.of[req.BackendID]}, ChangedAt: time.Now()})(m)
}

// reaches reads a stream until its backend has a status, and sees that states only rise.
func (s *stream) reaches(status messages.Status) {
	s.t.Helper()
	for last := 0; ; {
		e := s.next().state(s.t)
		if e.Number <= last {
			s.t.Fatalf("after %d comes %+v", last, e)
		}
		if last = e.Number; e.Status == status {
			return
		}
	}
}

// I5: a gateway on any server of a cluster streams each state, though links are slow, or broke for a while, and meanwhile what a worker knows. (See the test of the same name in messages/client.)
func TestI5StreamsInAClusterMissNothing(t *testing.T) {
	t.Parallel()
	testkit.Long(t)
	nodes := natstest.Cluster(t)
	near, far := natstest.Conn(t, nodes.URL(0)), nodes.URL(2)
	js := natstest.JetStream(t, near)
	streams := bus.Streams{Replicas: 3, Actions: bus.MinStream, Events: bus.MinStream, Logs: bus.MinStream}
	testkit.Eventually(t, "the streams are made", func() bool { return bus.EnsureStreams(t.Context(), js, streams) == nil })
	nodes.LeadNear(t, near, messages.StreamEvents)
	all := &lives{of: make(map[string]messages.Status)}
	for _, nc := range []*nats.Conn{near, natstest.Conn(t, far)} {
		_, err := nc.Subscribe(messages.SubjectStatus, all.answer)
		must(t, err)
	}
	publish := func(backend string, states ...messages.Status) {
		for _, s := range states {
			all.set(backend, s)
			event := messages.Encode(messages.NewStateEvent(backend, time.Now(), messages.State{Status: s}))
			testkit.Eventually(t, "it is published", func() bool { // another server may have to lead the stream first
				_, err := js.Publish(testkit.Context(t), messages.BackendEventSubject(backend), event)
				return err == nil
			})
		}
	}
	gateways := []*fixture{startOn(t, nodes.URL(0)), startOn(t, nodes.URL(1)), startOn(t, far)}
	watch := func(gateway int, backend string) *stream {
		return gateways[gateway].open("/v1/backends/" + backend + "/events")
	}

	nodes.Delay(25 * time.Millisecond)
	publish("cut", messages.Scheduled, messages.Ready)
	cut := startOn(t, far, func(c *gateway.Config) { c.Unsure(20 * time.Millisecond) }).open("/v1/backends/cut/events") // it has asked a worker long before the cut
	cut.reaches(messages.Ready)
	var publishing sync.WaitGroup
	defer publishing.Wait()
	var crowd []*stream
	for i := range 40 {
		backend := fmt.Sprintf("b-%d", i)
		publish(backend, messages.Scheduled)
		publishing.Go(func() { publish(backend, messages.Loading, messages.Starting, messages.Waiting, messages.Ready) })
		crowd = append(crowd, watch(i%3, backend))
	}
	for _, s := range crowd {
		s.reaches(messages.Ready)
	}

	// After some seconds without an event the gateways read the stream no more. So long it takes for a worker to be asked, twice.
	for _, silent := range []string{"silent-1", "silent-2"} {
		all.set(silent, messages.Ready)
		watch(2, silent).reaches(messages.Ready)
	}
	nodes.Cut()
	publish("cut", messages.Terminated)
	watch(2, "cut").reaches(messages.Terminated) // by the word of a worker
	nodes.Heal()
	cut.reaches(messages.Terminated) // which nobody at that server heard live
}
