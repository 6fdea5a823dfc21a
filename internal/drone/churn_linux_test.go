package drone_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/drone"
	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/process"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/messages"
)

// holdings are what an agent in this process holds.
type holdings struct{ descriptors, goroutines, heap, files, groups int }

// holdings measures what is held when nothing runs.
func (h holdings) of(t *testing.T, dir string, rt runtime.Grouped) holdings {
	t.Helper()
	count := func(dir string) (n int) {
		_ = filepath.WalkDir(dir, func(string, fs.DirEntry, error) error { n++; return nil })
		return n
	}
	for range 4 { // stacks shrink by half per collection
		goruntime.GC()
	}
	var stats goruntime.MemStats
	goruntime.ReadMemStats(&stats)
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	h = holdings{len(open), goruntime.NumGoroutine(), int(stats.HeapAlloc + stats.StackInuse), count(dir), 0}
	group := filepath.Dir(rt.Group("b")) // of the unified hierarchy; those of v1 have the same name
	for _, part := range []string{group, strings.Replace(group, "/unified/", "/pids/", 1), strings.Replace(group, "/unified/", "/memory/", 1)} {
		dirs, _ := filepath.Glob(filepath.Join(part, "*", "cgroup.procs"))
		h.groups += len(dirs)
	}
	return h
}

// I8: an agent that runs many short lives, as many a minute as anybody starts, holds no more after
// the second half of them than after the first.
func TestI8ShortLivesLeaveNothing(t *testing.T) {
	// Not in parallel: it measures what this process holds.
	lives := testkit.Sized(t, 30, 300)
	dir := t.TempDir()
	server := natstest.Server(t)
	h := newHub(t, server.URL())
	rt, err := process.New(process.Config{
		Root: ownRoot(t), StateDir: filepath.Join(dir, "processes"), Drone: droneName(t),
		PortRest: time.Millisecond, // else what rests of the first half is held through the second
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rt.Close() })
	start(t, server.URL(), rt, func(c *drone.Config) { c.DataDir = filepath.Join(dir, "data") }).awaitReady()

	half := func(name string) (now holdings) {
		for n := range lives {
			id := fmt.Sprintf("b-%s-%d", name, n)
			h.spawn(id, plays("exits"))
			if got := h.end(id); got.Reason != messages.ReasonStartFailed || got.ExitCode == nil || *got.ExitCode != 3 {
				t.Fatalf("%s ended as %+v", id, got)
			}
		}
		testkit.Eventually(t, "the workers have heard that nothing runs", func() bool { return h.renews(0) })
		h.set(func() { // what the test itself keeps
			h.states, h.heartbeats = map[string][]messages.State{}, h.heartbeats[len(h.heartbeats)-1:]
		})
		return now.of(t, dir, rt.(runtime.Grouped))
	}
	first := half("first")
	second := half("second")
	t.Logf("after %d lives it holds %+v, after as many again %+v", lives, first, second)
	// Nothing of a life: what differs is when which timer or connection was looked at.
	const some = 8
	if second.descriptors > first.descriptors+some || second.goroutines > first.goroutines+some ||
		second.files > first.files+some || second.groups > first.groups {
		t.Errorf("it grows")
	}
	if perLife := (second.heap - first.heap) / lives; perLife > 8<<10 {
		t.Errorf("it grows by %d bytes a life", perLife)
	}
}
