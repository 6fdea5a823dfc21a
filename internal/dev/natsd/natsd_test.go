package natsd_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/jetway-project/jetway/internal/dev/natsd"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
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

// What is wrong with an address, or the store, is an error at once, not a wait.
func TestWhatCannotStartIsSaid(t *testing.T) {
	t.Parallel()
	_, err := natsd.Start(natsd.Config{Host: "192.0.2.1", StoreDir: t.TempDir()})
	if _, taken := errors.AsType[*natsd.PortTakenError](err); err == nil || taken || !strings.Contains(err.Error(), "192.0.2.1") {
		t.Error("an address of another machine: ", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := natsd.Start(natsd.Config{StoreDir: file}); err == nil || !strings.Contains(err.Error(), file) {
		t.Error("a store that is a file: ", err)
	}
}

func TestStreamsSurviveARestart(t *testing.T) {
	dir, ctx := t.TempDir(), testkit.Context(t)
	for round := range 2 {
		s, err := natsd.Start(natsd.Config{StoreDir: dir})
		if err != nil {
			t.Fatal(err)
		}
		nc, err := nats.Connect(s.URL(), nats.Timeout(testkit.Patience))
		if err != nil {
			t.Fatal(err)
		}
		js := natstest.JetStream(t, nc)
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
