package bus_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/messages"
)

// A drone whose consumer is of another kind, as an earlier version made it, gets its
// actions all the same.
func TestI3ConsumerOfAnotherKindIsMadeAnew(t *testing.T) {
	t.Parallel()
	nc := natstest.Conn(t, natstest.Server(t).URL())
	js := natstest.JetStream(t, nc)
	if err := bus.EnsureStreams(t.Context(), js, bus.Streams{}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateConsumer(t.Context(), messages.StreamActions, jetstream.ConsumerConfig{
		Durable: "dr-a", FilterSubject: messages.ActionSubject("dr-a"), AckPolicy: jetstream.AckExplicitPolicy,
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), messages.ActionSubject("dr-a"), []byte("an action")); err != nil {
		t.Fatal(err)
	}
	sub, err := nc.SubscribeSync(messages.DeliverSubject("dr-a"))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second finds it as it should be
		if _, err := bus.EnsureConsumer(t.Context(), js, "dr-a"); err != nil {
			t.Fatal(err)
		}
	}
	msg, err := sub.NextMsgWithContext(testkit.Context(t))
	if err != nil || string(msg.Data) != "an action" {
		t.Fatal(msg, err)
	}
}

// A cluster without a leader says nothing to who asks for a stream. Found by torture: a
// worker waited for the answer for all the time that it had.
func TestNoAnswerAboutAStreamIsWaitedForLong(t *testing.T) {
	t.Parallel()
	nc := natstest.Conn(t, natstest.Configured(t, &server.Options{}))
	if _, err := nc.SubscribeSync("$JS.API.>"); err != nil { // it hears all and says nothing
		t.Fatal(err)
	}
	js := natstest.JetStream(t, nc)
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour) // that nobody has
	defer cancel()
	gave := make(chan string)
	asks := map[string]func() error{
		"EnsureStreams":      func() error { return bus.EnsureStreams(ctx, js, bus.Streams{Replicas: 3}) },
		"MakeMissingStreams": func() error { return bus.MakeMissingStreams(ctx, js, bus.Streams{Replicas: 3}) },
		"EnsureConsumer":     func() error { _, err := bus.EnsureConsumer(ctx, js, "dr-a"); return err },
	}
	for name, ask := range asks {
		go func() {
			if err := ask(); !errors.Is(err, context.DeadlineExceeded) {
				name += fmt.Sprintf(" gives %v", err)
			}
			gave <- name
		}()
	}
	for range asks {
		if name := testkit.Receive(t, gave, "all give up, long before the hour is over"); asks[name] == nil {
			t.Error(name)
		}
	}
}

// Whatever comes, streams take no more than so much, nor do those who listen to one backend wait for it.
func TestI8EveryStreamIsBounded(t *testing.T) {
	t.Parallel()
	nc := natstest.Conn(t, natstest.Server(t).URL())
	js := natstest.JetStream(t, nc)
	if err := bus.EnsureStreams(t.Context(), js, bus.Streams{}); err != nil {
		t.Fatal(err)
	}
	found := 0
	for info := range js.ListStreams(t.Context()).Info() {
		found++
		c := info.Config
		if c.Name == messages.StreamCerts {
			// Not history: what is in it is in use, and nothing goes for something else. Whoever writes
			// to it must not be able to have it delivered elsewhere.
			if c.MaxBytes <= 0 || c.MaxBytes > 64<<20 || c.MaxMsgsPerSubject != 1 || c.MaxAge != 0 || c.Discard != jetstream.DiscardNew || c.AllowDirect {
				t.Errorf("%s is made as %+v", c.Name, c)
			}
			continue
		}
		if c.MaxAge <= 0 || c.MaxAge > 24*time.Hour || c.MaxBytes <= 0 || c.MaxBytes > 2<<30 || c.Duplicates > time.Minute {
			t.Errorf("%s may keep %d bytes for %s, and ids for %s", c.Name, c.MaxBytes, c.MaxAge, c.Duplicates)
		}
		if c.Discard != jetstream.DiscardOld {
			t.Errorf("%s refuses what is new when it is full", c.Name)
		}
		if c.Retention == jetstream.LimitsPolicy && (c.MaxMsgsPerSubject <= 0 || c.MaxMsgsPerSubject > 200) {
			t.Errorf("%s may keep %d messages of one backend", c.Name, c.MaxMsgsPerSubject)
		}
	}
	if found != 4 {
		t.Errorf("there are %d streams", found)
	}
	// What a worker did not come to delete, the server does.
	if _, err := bus.EnsureConsumer(t.Context(), js, "dr-a"); err != nil {
		t.Fatal(err)
	}
	consumer, err := js.PushConsumer(t.Context(), messages.StreamActions, "dr-a")
	if err != nil {
		t.Fatal(err)
	}
	if unused := consumer.CachedInfo().Config.InactiveThreshold; unused <= 0 {
		t.Error("the consumer of a drone that never comes back stays for ever")
	}
	for range 2 { // also where there is none
		if err := bus.DeleteConsumer(t.Context(), js, "dr-a"); err != nil {
			t.Error(err)
		}
	}
	if _, err := js.PushConsumer(t.Context(), messages.StreamActions, "dr-a"); !errors.Is(err, jetstream.ErrConsumerNotFound) {
		t.Errorf("the deleted consumer: %v", err)
	}
}

// Neither passwords nor tokens of a server's URL are shown.
func TestRedactHidesWhatIsSecret(t *testing.T) {
	t.Parallel()
	for servers, shown := range map[string]string{
		"nats://ann:secret@a:4222, b:4222":  "nats://ann:xxxxx@a:4222,b:4222",
		"tls://secret@a":                    "tls://xxxxx@a",
		"ann:secret@a:4222":                 "nats://ann:xxxxx@a:4222",
		"nats://ann:sec,ret@a:4222":         "xxxxx,nats://xxxxx@a:4222",
		"nats://ann:secret%@a":              "xxxxx",
		"nats://127.0.0.1:4222,nats://h/ x": "nats://127.0.0.1:4222,nats://h/ x",
	} {
		if got := bus.Redact(servers); got != shown {
			t.Errorf("%s is shown as %s, wanted %s", servers, got, shown)
		}
	}
}
