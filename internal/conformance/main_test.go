package conformance_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/testkit"
)

func TestMain(m *testing.M) {
	if os.Getenv("TEST_BACKEND") != "" {
		playBackend()
	}
	testkit.Main(m)
}

// playBackend is what this binary does when a drone runs it as a backend.
func playBackend() {
	server := &http.Server{Addr: "127.0.0.1:" + os.Getenv("PORT"), ReadHeaderTimeout: time.Minute, Handler: http.NotFoundHandler()}
	fmt.Println(server.ListenAndServe())
	os.Exit(1)
}

// ownRoot gives a directory with this binary, named backend.
func ownRoot(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if os.Link(self, filepath.Join(root, "backend")) == nil {
		return root
	}
	binary, err := os.ReadFile(self) // it is on another file system
	if err == nil {
		err = os.WriteFile(filepath.Join(root, "backend"), binary, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	return root
}
