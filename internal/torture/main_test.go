//go:build linux

package torture_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/jetway-project/jetway/internal/testkit"
)

var (
	duration = flag.Duration("torture.duration", 0, "how long to torture; 0: a small form")
	seed     = flag.Uint64("torture.seed", 0, "seed of clients and faults; 0: a new one")
	only     = flag.String("torture.faults", "", "the kinds of faults, between commas; all where it is not given")
	report   = flag.String("torture.report", "", "directory for logs and the report of a failure; a temporary one where it is not given")
)

// roleEnv makes a child of the test binary a NATS node; the name backendName makes it a backend.
const (
	roleEnv     = "JETWAY_TORTURE_NATS"
	backendName = "backend"
)

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == backendName {
		playBackend(os.Args[1:])
	}
	if config := os.Getenv(machineEnv); config != "" {
		var m machine
		if err := json.Unmarshal([]byte(config), &m); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		playMachine(m)
	}
	if config := os.Getenv(roleEnv); config != "" {
		var node natsNode
		if err := json.Unmarshal([]byte(config), &node); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		playNATS(node)
	}
	testkit.Main(m)
}
