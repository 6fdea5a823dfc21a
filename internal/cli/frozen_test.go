package cli

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// The configuration in deploy/nats cuts who is frozen as the server of jetway dev does.
func TestDeployedServerCutsSilentClients(t *testing.T) {
	newGuarded(t) // sets its environment
	opts, err := server.ProcessConfigFile(filepath.Join("..", "..", "deploy", "nats", "nats-server.conf"))
	if err != nil {
		t.Fatal(err)
	}
	if opts.PingInterval != 10*time.Second || opts.MaxPingsOut != 2 {
		t.Errorf("clients are asked every %s, and %d answers may be missing", opts.PingInterval, opts.MaxPingsOut)
	}
}
