package process_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jetway-project/jetway/internal/testkit"
)

func TestLeftPipesAreRemoved(t *testing.T) {
	t.Parallel()
	h := newHeir(t)
	orphan := h.orphan(t)
	for _, name := range []string{"gone.stdout", "gone.stderr"} {
		if err := unix.Mkfifo(filepath.Join(h.config.StateDir, name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	h.open(t)
	entries, err := filepath.Glob(filepath.Join(h.config.StateDir, "*"))
	if err != nil || len(entries) != 4 || !strings.HasPrefix(filepath.Base(entries[0]), "b.") {
		t.Fatalf("left %v, %v", entries, err)
	}
	orphan.lives(t)
}

func TestUsageIsThatOfTheGroup(t *testing.T) {
	t.Parallel()
	h := newHeir(t)
	orphan := h.orphan(t)
	instance := h.adopt(t, orphan.handle)
	tell(t, orphan.address, "burn 100ms")
	testkit.Eventually(t, "its use is seen", func() bool {
		usage, err := instance.Usage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return usage.CPU >= 70*time.Millisecond && usage.MemUsed > 1<<20 && usage.MemUsed < 1<<30
	})
	before, _ := instance.Usage(t.Context())
	tell(t, orphan.address, "exit 0")
	h.exit(instance)
	if usage, err := instance.Usage(t.Context()); err != nil || usage.CPU < before.CPU {
		t.Fatalf("after its end: usage %+v, %v", usage, err)
	}
}
