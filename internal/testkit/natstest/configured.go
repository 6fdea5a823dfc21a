package natstest

import (
	"net"
	"strconv"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/jetway-project/jetway/internal/testkit"
)

// Configured runs a server with the options of a configuration file (see
// server.ProcessConfigFile) or of a test, until the test ends. Only where it listens is
// changed, 127.0.0.1, any free port, and how long it bears with slow clients. It gives the
// server's URL.
func Configured(t testing.TB, opts *server.Options) (url string) {
	t.Helper()
	opts.Host, opts.Port = "127.0.0.1", server.RANDOM_PORT
	opts.NoSigs, opts.NoLog = true, true
	opts.TLSTimeout, opts.AuthTimeout = testkit.Patience.Seconds(), testkit.Patience.Seconds()
	s, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(testkit.Patience) {
		t.Fatal("the NATS server takes no connections")
	}
	return "nats://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Addr().(*net.TCPAddr).Port))
}
