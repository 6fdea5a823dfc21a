//go:build deploy

package deployed

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/nats-io/nkeys"

	"github.com/jetway-project/jetway/internal/testkit"
)

// tool is a program or archive that make deploy-test has brought, in the directory that JETWAY_TEST_TOOLS names.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(os.Getenv("JETWAY_TEST_TOOLS"), name))
	if err == nil {
		_, err = os.Stat(path)
	}
	if os.Getenv("JETWAY_TEST_TOOLS") == "" || err != nil {
		testkit.LeaveOut(t, "tests of what is deployed take "+name, "make deploy-test brings it")
	}
	return path
}

var busUser = regexp.MustCompile(`(?m)^ *nkey: \$(JETWAY_NKEY_(\w+))$`)

// busUsers makes a key for each user of deploy/nats, keeps its seed, and gives the variables that tell the server of them.
func busUsers(t *testing.T, keep func(user, seed string)) (env []string) {
	t.Helper()
	config, err := os.ReadFile("../../deploy/nats/nats-server.conf")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range busUser.FindAllStringSubmatch(string(config), -1) {
		pair, err := nkeys.CreateUser()
		if err != nil {
			t.Fatal(err)
		}
		seed, _ := pair.Seed()
		public, _ := pair.PublicKey()
		keep(strings.ToLower(strings.ReplaceAll(m[2], "_", "-")), string(seed))
		env = append(env, m[1]+"="+public)
	}
	return env
}
