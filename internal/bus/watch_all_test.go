package bus_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/messages"
	"github.com/jetway-project/jetway/messages/client"
)

// watchingAll runs a WatchAll and gives what it gives, as backend/status.
func watchingAll(t *testing.T, nc *nats.Conn) <-chan string {
	t.Helper()
	seen, begun := make(chan string, 10000), make(chan struct{}, 10000)
	ctx, cancel := context.WithTimeout(t.Context(), testkit.Patience)
	done := make(chan struct{})
	t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		for event, err := range client.New(nc).WatchAll(ctx) {
			if err != nil {
				if ctx.Err() == nil {
					t.Errorf("watch all: %v", err)
				}
				break
			}
			if strings.HasPrefix(event.BackendID, "first-") {
				begun <- struct{}{}
				continue
			}
			seen <- event.BackendID + "/" + event.Status.String()
		}
		close(seen)
	}()
	// It begins some time: until it has seen something, something is published.
	js := natstest.JetStream(t, nc)
	for n := 0; ; n++ {
		select {
		case <-begun:
			return seen
		default:
		}
		first := fmt.Sprintf("first-%d", n)
		if _, err := js.Publish(ctx, messages.BackendEventSubject(first), eventOf(first, messages.Scheduled)); err != nil {
			t.Fatal("it does not begin: ", err)
		}
	}
}

func expectAll(t *testing.T, seen <-chan string, want ...string) {
	t.Helper()
	for i, w := range want {
		if got := <-seen; got != w {
			t.Fatalf("event %d is %q, want %q", i, got, w)
		}
	}
}

func TestI5WatchAllInOrderWithoutCopies(t *testing.T) {
	t.Parallel()
	_, nc, js := withStreams(t)
	publishStates(t, js, "old", messages.Scheduled)
	seen := watchingAll(t, nc)
	if _, err := js.Publish(t.Context(), messages.DroneEventSubject("dr-a"), []byte(`{}`)); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), messages.BackendEventSubject("b0"), []byte(`not JSON`)); err != nil {
		t.Fatal(err)
	}
	publishStates(t, js, "b1", messages.Scheduled, messages.Scheduled, messages.Ready)
	publishStates(t, js, "b2", messages.Scheduled)
	publishStates(t, js, "b1", messages.Scheduled, messages.Terminated)
	expectAll(t, seen, "b1/scheduled", "b1/ready", "b2/scheduled", "b1/terminated")
	wantNoConsumers(t, js)
}

// I5: a flood comes whole and in order, however far behind the reader is.
func TestI5WatchAllKeepsUpWithAFlood(t *testing.T) {
	t.Parallel()
	_, nc, js := withStreams(t)
	seen := watchingAll(t, nc)
	var want []string
	publisher, err := bus.NewPublisher(nc)
	if err != nil {
		t.Fatal(err)
	}
	var msgs []*nats.Msg
	for b := range 600 {
		for _, status := range messages.Statuses {
			backend := fmt.Sprintf("b%d", b)
			msgs = append(msgs, &nats.Msg{Subject: messages.BackendEventSubject(backend), Data: eventOf(backend, status)})
			want = append(want, backend+"/"+status.String())
		}
	}
	for some := range slices.Chunk(msgs, 500) {
		if err := errors.Join(publisher.Publish(some)(t.Context())...); err != nil {
			t.Fatal(err)
		}
	}
	expectAll(t, seen, want...)
	wantNoConsumers(t, js)
}

// I5: what happened while the connection was away is given when it is back, be the
// server the same, restarted, or another one with nothing of the past.
func TestI5WatchAllAcrossRestartsAndLosses(t *testing.T) {
	t.Parallel()
	s := natstest.Own(t)
	nc := watchConn(t, s.URL())
	other := watchConn(t, s.URL())
	js := natstest.JetStream(t, other)
	prepareStreams(t, js)
	seen := watchingAll(t, nc)
	publishStates(t, js, "b1", messages.Scheduled, messages.Loading)
	expectAll(t, seen, "b1/scheduled", "b1/loading")
	for i, again := range []func(){s.Restart, s.Replace, s.Restart, s.Replace} {
		again()
		awaitServer(t, other)
		prepareStreams(t, js)
		// Old news first: what is on record is published again.
		publishStates(t, js, "b1", messages.Loading)
		backend := fmt.Sprintf("after-%d", i)
		publishStates(t, js, backend, messages.Scheduled, messages.Ready)
		expectAll(t, seen, backend+"/scheduled", backend+"/ready")
	}
	wantNoConsumers(t, js)
}

func TestWatchAllEndsWithContextAndStream(t *testing.T) {
	t.Parallel()
	_, nc, _ := withStreams(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range client.New(nc).WatchAll(ctx) {
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("ended with %v", err)
		}
	}
	for _, err := range client.New(watchConn(t, bareServer(t))).WatchAll(t.Context()) {
		if messages.KindOf(err) != messages.Unavailable {
			t.Fatalf("ended with %v", err)
		}
	}
}

func wantNoConsumers(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	stream, err := js.Stream(t.Context(), messages.StreamEvents)
	if err != nil {
		t.Fatal(err)
	}
	info, err := stream.Info(t.Context())
	if err != nil || info.State.Consumers != 0 {
		t.Fatalf("%d consumers, %v", info.State.Consumers, err)
	}
}
