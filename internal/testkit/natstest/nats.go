package natstest

import (
	"testing"

	"github.com/jetway-project/jetway/internal/dev/natsd"
)

// Restartable is a NATS server with JetStream for one test alone, to be restarted and
// replaced at the same address.
type Restartable struct {
	t       testing.TB
	port    int
	dir     string
	running *natsd.Server
}

// Own starts one. It runs until the test ends.
func Own(t testing.TB) *Restartable {
	t.Helper()
	s := &Restartable{t: t, dir: t.TempDir()}
	s.running, s.port = startNATS(t, s.dir)
	t.Cleanup(func() { s.running.Stop() })
	return s
}

// URL is where clients connect. It stays the same.
func (s *Restartable) URL() string { return s.running.URL() }

// Stop ends it; what is stored stays.
func (s *Restartable) Stop() { s.running.Stop() }

// Start starts it again after Stop.
func (s *Restartable) Start() {
	s.t.Helper()
	var err error
	if s.running, err = natsd.Start(natsd.Config{Port: s.port, StoreDir: s.dir}); err != nil {
		s.t.Fatal(err)
	}
}

// Restart ends the server and starts it with what is stored.
func (s *Restartable) Restart() {
	s.t.Helper()
	s.Stop()
	s.Start()
}

// Replace puts an empty server in its place.
func (s *Restartable) Replace() {
	s.t.Helper()
	s.Stop()
	s.dir = s.t.TempDir()
	s.Start()
}
