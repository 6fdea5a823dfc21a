package bus_test

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/internal/testkit"
)

// logText is a log to look into.
type logText struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logText) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), what)
}

// A role that the server no longer lets in says so, and is back when it may be:
// its backends need not pay for a mistake in the server's configuration.
func TestRefusedWhileItRunsComesBack(t *testing.T) {
	t.Parallel()
	users := func(password string) *server.Options {
		return &server.Options{
			Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true,
			Users: []*server.User{{Username: "dr-a", Password: password}},
		}
	}
	s, err := server.NewServer(users("s3cret"))
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(testkit.Patience) {
		t.Fatal("the NATS server takes no connections")
	}
	url := strings.Replace(s.ClientURL(), "//", "//dr-a:s3cret@", 1)
	back := make(chan struct{}, 1)
	log := &logText{}
	nc, err := bus.Connect(t.Context(), bus.Config{URL: url, Name: "dr-a", Log: slog.New(slog.NewTextHandler(log, nil)), OnReconnect: func() { back <- struct{}{} }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	if err := s.ReloadOptions(users("another")); err != nil {
		t.Fatal(err)
	}
	// More often than the client library would try by itself.
	testkit.Eventually(t, "it is refused several times", func() bool { return log.count("does not let us in any more") > 3 })
	if err := s.ReloadOptions(users("s3cret")); err != nil {
		t.Fatal(err)
	}
	ctx := testkit.Context(t)
	select {
	case <-back:
	case <-ctx.Done():
		t.Fatal("it does not come back: ", nc.Status(), nc.LastError())
	}
	if log.count("s3cret") > 0 {
		t.Error("the log shows the password")
	}
	if _, err := bus.Connect(ctx, bus.Config{URL: strings.Replace(url, "s3cret", "wr0ng", 1), Log: slog.New(slog.DiscardHandler)}); !bus.Unauthorized(err) || strings.Contains(err.Error(), "wr0ng") {
		t.Errorf("connecting with a wrong password: %v", err)
	}
	if nc.Status() != nats.CONNECTED {
		t.Error(nc.Status())
	}
}
