package worker_test

import (
	"log/slog"
	"testing"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/worker"
)

// The demand: a second worker of a name says so; one of another name does not.
func TestSecondWorkerOfANameSaysSo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	said := func(name string) *logs {
		var log logs
		startWorker(t, w, name, options{change: func(c *worker.Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) }})
		return &log
	}
	said("wo-a")
	other := said("wo-b")
	second := said("wo-a")
	testkit.Eventually(t, "its log says so", func() bool { return len(second.with("another worker has this one's name")) == 1 })
	// That one asked before.
	if lines := other.with("has this one's name"); len(lines) > 0 {
		t.Errorf("wo-b says %v", lines)
	}
}
