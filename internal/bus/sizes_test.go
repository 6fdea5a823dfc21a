package bus_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/messages"
	"github.com/jetway-project/jetway/messages/client"
)

// account runs a server with one account that may store so much.
func account(t *testing.T, limits string) jetstream.JetStream {
	t.Helper()
	file := filepath.Join(t.TempDir(), "nats.conf")
	conf := `jetstream { store_dir: "` + t.TempDir() + `", max_mem: 1GB, max_file: 8GB }
		accounts { J { jetstream: { ` + limits + ` }, users: [ { user: u, password: p } ] } }
		no_auth_user: u`
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	opts, err := server.ProcessConfigFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return natstest.JetStream(t, natstest.Conn(t, natstest.Configured(t, opts)))
}

func maxBytes(t *testing.T, js jetstream.JetStream, stream string) int64 {
	t.Helper()
	s, err := js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo().Config.MaxBytes
}

// An account with less than a stream reserves gets an error that says what to give less, how much was asked for and what
// there is; and with less asked for it works.
func TestAnAccountWithLessThanAStreamReservesIsToldTheFlag(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, limits string
		of           bus.Streams
		says         []string
	}{
		{
			"memory", "max_mem: 64MB, max_file: 8GB",
			bus.Streams{},
			[]string{"--stream-actions", "reserves 256 MiB of memory", "limit is 64 MiB", messages.StreamActions},
		},
		{
			"files", "max_mem: 512MB, max_file: 1GB",
			bus.Streams{},
			[]string{"--stream-events", "reserves 2.0 GiB of file", "limit is 1.0 GiB", messages.StreamEvents},
		},
		{
			"files, by then", "max_mem: 512MB, max_file: 1GB",
			bus.Streams{Events: 900 << 20},
			[]string{"--stream-logs", "reserves 256 MiB of file", "limit is 1.0 GiB", "900 MiB are reserved", messages.StreamLogs},
		},
		{
			"certificates", "max_mem: 512MB, max_file: 1GB",
			bus.Streams{Events: 900 << 20, Logs: 100 << 20},
			[]string{"reserves 64 MiB of file", "limit is 1.0 GiB", "1000 MiB are reserved", messages.StreamCerts},
		},
		{
			"the server", "max_mem: -1, max_file: -1",
			bus.Streams{Actions: 2 << 30},
			[]string{"--stream-actions", "reserves 2.0 GiB of memory", "it is the server that has less"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			js := account(t, c.limits)
			for name, ensure := range map[string]func(context.Context, jetstream.JetStream, bus.Streams) error{
				"EnsureStreams": bus.EnsureStreams, "MakeMissingStreams": bus.MakeMissingStreams,
			} {
				err := ensure(t.Context(), js, c.of)
				for _, part := range c.says {
					if err == nil || !strings.Contains(err.Error(), part) {
						t.Errorf("%s does not say %q: %v", name, part, err)
					}
				}
			}
			if err := bus.EnsureStreams(t.Context(), js, bus.Streams{Actions: 32 << 20, Events: 256 << 20, Logs: 32 << 20}); err != nil {
				t.Errorf("with less: %v", err)
			}
		})
	}
}

// A stream that is there is given the size that the flags say now, larger and smaller, and keeps what it has.
func TestStreamsFollowTheirFlags(t *testing.T) {
	t.Parallel()
	js := account(t, "max_mem: 1GB, max_file: 8GB")
	for i, of := range []bus.Streams{{Actions: 8 << 20, Events: 64 << 20, Logs: 8 << 20}, {}, {Actions: 16 << 20, Events: 32 << 20, Logs: 4 << 20}} {
		if err := bus.EnsureStreams(t.Context(), js, of); err != nil {
			t.Fatal(err)
		}
		of = of.OrDefault()
		for stream, want := range map[string]int64{messages.StreamActions: of.Actions, messages.StreamEvents: of.Events, messages.StreamLogs: of.Logs} {
			if got := maxBytes(t, js, stream); got != want {
				t.Errorf("round %d: %s may take %d bytes, wanted %d", i, stream, got, want)
			}
		}
		if i == 0 {
			if _, err := js.Publish(t.Context(), messages.BackendEventSubject("b"), []byte("kept")); err != nil {
				t.Fatal(err)
			}
		}
	}
	events, err := js.Stream(t.Context(), messages.StreamEvents)
	if err != nil || events.CachedInfo().State.Msgs != 1 {
		t.Errorf("of the events is left: %v, %v", events, err)
	}
}

// I7: where the server takes less than a message of Jetway may need, nobody begins.
func TestI7AServerThatTakesTooLittleIsRefused(t *testing.T) {
	t.Parallel()
	connect := func(most int32) error {
		nc, err := bus.Connect(testkit.Context(t), bus.Config{
			URL: natstest.Configured(t, &server.Options{MaxPayload: most}), Name: "wo-a", Log: testkit.Logger(t),
		})
		if err == nil {
			nc.Close()
		}
		return err
	}
	if err := connect(256 << 10); err == nil || !strings.Contains(err.Error(), "max_payload") || !strings.Contains(err.Error(), "262144") {
		t.Errorf("256 KiB: %v", err)
	}
	if err := connect(bus.MinPayload); err != nil {
		t.Errorf("%d bytes: %v", bus.MinPayload, err)
	}
}

// I7: a request that is too long for the server is the asker's to mend, and nobody's absence.
func TestI7ARequestThatTheServerDoesNotTakeIsBad(t *testing.T) {
	t.Parallel()
	nc := natstest.Conn(t, natstest.Configured(t, &server.Options{MaxPayload: 8 << 10}))
	_, err := client.RequestRaw(testkit.Context(t), nc, messages.SubjectConnect, make([]byte, 9<<10))
	if messages.KindOf(err) != messages.BadRequest || !strings.Contains(err.Error(), "max_payload") || !strings.Contains(err.Error(), "8192") {
		t.Error(err)
	}
}
