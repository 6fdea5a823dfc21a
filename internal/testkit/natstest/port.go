package natstest

import (
	"math/rand/v2"
	"testing"

	"github.com/jetway-project/jetway/internal/dev/natsd"
)

// startNATS starts a server on a port below those that systems give to whoever asks
// for any (32768 and up on Linux), and below those of the process runtime: while it is stopped to be started again, nobody
// else gets it by chance.
func startNATS(t testing.TB, dir string) (*natsd.Server, int) {
	t.Helper()
	var err error
	for range 50 {
		port := 10000 + rand.IntN(10000) //nolint:gosec // nobody must be kept from guessing it
		var s *natsd.Server
		if s, err = natsd.Start(natsd.Config{Port: port, StoreDir: dir}); err == nil {
			return s, port
		}
	}
	t.Fatal(err)
	return nil, 0
}
