package natsd_test

import (
	"context"
	"errors"
	"net"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/jetway-project/jetway/internal/dev/natsd"
	"github.com/jetway-project/jetway/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func TestTakenPortIsSaid(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = natsd.Start(natsd.Config{Port: l.Addr().(*net.TCPAddr).Port, StoreDir: t.TempDir()})
	var taken *natsd.PortTakenError
	if !errors.As(err, &taken) || taken.Addr != l.Addr().String() {
		t.Fatal(err)
	}
}

func TestStreamsSurviveARestart(t *testing.T) {
	dir, ctx := t.TempDir(), context.Background()
	for round := range 2 {
		s, err := natsd.Start(natsd.Config{StoreDir: dir})
		if err != nil {
			t.Fatal(err)
		}
		nc, err := nats.Connect(s.URL())
		if err != nil {
			t.Fatal(err)
		}
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		if round == 0 {
			if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}}); err != nil {
				t.Fatal(err)
			}
			if _, err := js.Publish(ctx, "s", nil); err != nil {
				t.Fatal(err)
			}
		} else if stream, err := js.Stream(ctx, "S"); err != nil || stream.CachedInfo().State.Msgs != 1 {
			t.Fatal(stream, err)
		}
		nc.Close()
		s.Stop()
		s.Stop()
	}
}
