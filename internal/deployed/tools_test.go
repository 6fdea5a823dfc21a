//go:build deploy

package deployed

import (
	"os"
	"path/filepath"
	"testing"

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
