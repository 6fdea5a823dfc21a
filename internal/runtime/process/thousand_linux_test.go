package process_test

import (
	"fmt"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/testkit"
)

// mostPerProcess is what a process may cost the agent in the runtime, in bytes, of the
// 64 KiB that a backend may cost it in all.
const mostPerProcess = 24 << 10

// TestI8ThousandProcessesCostLittle starts a thousand processes and measures what the
// runtime holds for each: heap and stacks, and without the race detector, which holds
// much of its own, resident memory.
func TestI8ThousandProcessesCostLittle(t *testing.T) {
	if testing.Short() {
		t.Skip("a thousand processes: left out with -short")
	}
	const count = 1000
	h := newHeir(t)
	if err := testkit.Build(t.Context(), filepath.Join(h.config.Root, "listener"), "./testdata/listener"); err != nil {
		t.Fatal(err)
	}
	adopter := h.open(t)
	spec := func(n int, ready *sync.WaitGroup) runtime.Spec {
		id := "b" + strconv.Itoa(n)
		return runtime.Spec{
			BackendID: id, Executable: []byte(`{"command": ["listener"]}`),
			Env: map[string]string{runtime.EnvBackendID: id},
			Log: func(line runtime.Line) {
				if line.Text != "ready" {
					t.Errorf("%s said %q", id, line.Text)
				}
				ready.Done()
			},
		}
	}
	run := func(from, to int) (instances []runtime.Instance) {
		var ready sync.WaitGroup
		for n := from; n < to; n++ {
			ready.Add(1)
			instance, err := adopter.Start(t.Context(), spec(n, &ready))
			if err != nil {
				t.Fatal(err)
			}
			instances = append(instances, instance)
		}
		ready.Wait()
		return instances
	}
	// What the first ones cost is not theirs.
	instances := run(0, 20)
	heap, resident := held(t)
	instances = append(instances, run(20, 20+count)...)
	heapAfter, residentAfter := held(t)
	perHeap, perResident := (heapAfter-heap)/count, (residentAfter-resident)/count
	t.Logf("a process costs %d bytes of heap and stacks, %d of resident memory", perHeap, perResident)
	if perHeap > mostPerProcess || !raceEnabled && perResident > mostPerProcess {
		t.Errorf("at most %d are allowed", mostPerProcess)
	}
	if usage, err := instances[count].Usage(t.Context()); err != nil || usage.MemUsed == 0 {
		t.Errorf("usage %+v, %v", usage, err)
	}
	if ids, err := adopter.Find(t.Context()); err != nil || len(ids) != len(instances) {
		t.Errorf("found %d, %v", len(ids), err)
	}
	for _, instance := range instances {
		if err := instance.Terminate(t.Context(), true); err != nil {
			t.Fatal(err)
		}
	}
	for _, instance := range instances {
		<-instance.Done()
		if exit := instance.Exit(); exit.Signal != "SIGKILL" {
			t.Errorf("ended with %v", exit)
		}
	}
	h.leftNothing(t)
}

// held is what this process holds: heap and stacks, and resident memory that is not of
// files.
func held(t *testing.T) (heap, resident int) {
	t.Helper()
	for range 4 { // stacks shrink by half per collection
		goruntime.GC()
	}
	var stats goruntime.MemStats
	goruntime.ReadMemStats(&stats)
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "RssAnon:")
	if _, err := fmt.Sscan(rest, &resident); err != nil {
		t.Fatal(err)
	}
	return int(stats.HeapAlloc + stats.StackInuse), resident << 10
}
