package drone

import (
	"testing"
	"time"

	"github.com/jetway-project/jetway/messages"
)

// The demand: what a drone does when it is not told otherwise.
func TestDefaults(t *testing.T) {
	t.Parallel()
	c := Config{Name: "dr-a", Cluster: "localhost:9090", DataDir: t.TempDir()}.withDefaults()
	for what, d := range map[string]struct{ got, want time.Duration }{
		"grace":           {c.Grace, 10 * time.Second},
		"part of a start": {c.StartupTimeout, 5 * time.Minute},
		"between stats":   {c.StatsEvery, 10 * time.Second},
		"a drain":         {c.DrainTimeout, 0},
		"ending them all": {c.ShutdownTimeout, 15 * time.Second},
	} {
		if d.got != d.want {
			t.Errorf("%s: %s instead of %s", what, d.got, d.want)
		}
	}
	if c.OnExit != Leave || c.Capacity.MaxBackends != messages.MaxNamed {
		t.Errorf("it exits with %s, and takes %d backends", c.OnExit, c.Capacity.MaxBackends)
	}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
}
