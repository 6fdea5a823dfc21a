// Package natstest gives tests a real NATS server with JetStream, and connections to it.
package natstest

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/jetway-project/jetway/internal/dev/natsd"
	"github.com/jetway-project/jetway/internal/testkit"
)

// Server gives a server with JetStream for this test.
func Server(t testing.TB) *natsd.Server {
	t.Helper()
	s, _ := startNATS(t, t.TempDir())
	t.Cleanup(s.Stop)
	return s
}

// Conn connects to a server until the test ends.
func Conn(t testing.TB, url string, opts ...nats.Option) *nats.Conn {
	t.Helper()
	// Each try is short, and there are many: where a server was, another process may listen by now that never says a word.
	opts = append([]nats.Option{nats.Timeout(testkit.Patience / 18), nats.MaxReconnects(-1), nats.ReconnectWait(20 * time.Millisecond)}, opts...)
	nc, err := nats.Connect(url, opts...)
	for began := time.Now(); late(err) && time.Since(began) < testkit.Patience; {
		nc, err = nats.Connect(url, opts...)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// Insist does what asks a server for something, and again while the server does not answer in time, as on a slow machine.
func Insist(t testing.TB, do func() error) {
	t.Helper()
	err := do()
	for began := time.Now(); errors.Is(err, context.DeadlineExceeded) && time.Since(began) < testkit.Patience; {
		err = do()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// late says that a connection failed because this machine is slow: nothing came in time, or the server's first ping, which is due a second
// after its greeting, was there before what the client waited for.
func late(err error) bool {
	return errors.Is(err, nats.ErrTimeout) || err != nil && strings.Contains(err.Error(), "expected 'PONG', got 'PING'")
}

// JetStream gives a connection's, which waits for each answer as long as tests wait: by itself it gives up after 5 s.
func JetStream(t testing.TB, nc *nats.Conn) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(testkit.Patience))
	if err != nil {
		t.Fatal(err)
	}
	return js
}
