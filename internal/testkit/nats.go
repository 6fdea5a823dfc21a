package testkit

import (
	"testing"

	"github.com/jetway-project/jetway/internal/dev/natsd"
)

// NATSServer is a NATS server with JetStream for one test alone, to be restarted and
// replaced at the same address.
type NATSServer struct {
	t       testing.TB
	port    int
	dir     string
	running *natsd.Server
}

// OwnNATS starts one. It runs until the test ends.
func OwnNATS(t testing.TB) *NATSServer {
	t.Helper()
	s := &NATSServer{t: t, dir: t.TempDir()}
	s.running, s.port = startNATS(t, s.dir)
	t.Cleanup(func() { s.running.Stop() })
	return s
}

// URL is where clients connect. It stays the same.
func (s *NATSServer) URL() string { return s.running.URL() }

// Stop ends it; what is stored stays.
func (s *NATSServer) Stop() { s.running.Stop() }

// Start starts it again after Stop.
func (s *NATSServer) Start() {
	s.t.Helper()
	var err error
	if s.running, err = natsd.Start(natsd.Config{Port: s.port, StoreDir: s.dir}); err != nil {
		s.t.Fatal(err)
	}
}

// Restart ends the server and starts it with what is stored.
func (s *NATSServer) Restart() {
	s.t.Helper()
	s.Stop()
	s.Start()
}

// Replace puts an empty server in its place.
func (s *NATSServer) Replace() {
	s.t.Helper()
	s.Stop()
	s.dir = s.t.TempDir()
	s.Start()
}
