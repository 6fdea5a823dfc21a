package process_test

import (
	"fmt"
	"os"
	"path/filepath"
	goruntime "runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/testkit"
)

// crowd is many processes under one runtime.
type crowd struct {
	*heir
	runtime.Adopter
	t         *testing.T
	instances []runtime.Instance
}

func newCrowd(t *testing.T, cgroup string) *crowd {
	t.Helper()
	h := newHeirIn(t, cgroup)
	if err := testkit.Build(t.Context(), filepath.Join(h.config.Root, "listener"), "./testdata/listener"); err != nil {
		t.Fatal(err)
	}
	return &crowd{heir: h, Adopter: h.open(t), t: t}
}

// growTo starts processes until there are so many, and all are ready.
func (c *crowd) growTo(count int) {
	c.t.Helper()
	var ready sync.WaitGroup
	for n := len(c.instances); n < count; n++ {
		id := "b" + strconv.Itoa(n)
		ready.Add(1)
		instance, err := c.Adopter.Start(c.t.Context(), runtime.Spec{
			BackendID: id, Executable: []byte(`{"command": ["listener"]}`),
			Env: map[string]string{runtime.EnvBackendID: id},
			Log: func(line runtime.Line) {
				if line.Text != "ready" {
					c.t.Errorf("%s said %q", id, line.Text)
				}
				ready.Done()
			},
		})
		if err != nil {
			c.t.Fatal(err)
		}
		c.instances = append(c.instances, instance)
	}
	ready.Wait()
}

// end kills them, and sees that nothing is left.
func (c *crowd) end() {
	c.t.Helper()
	for _, instance := range c.instances {
		if err := instance.Terminate(c.t.Context(), true); err != nil {
			c.t.Fatal(err)
		}
	}
	for _, instance := range c.instances {
		testkit.Receive(c.t, instance.Done(), "a process ends")
		if exit := instance.Exit(); exit.Signal != "SIGKILL" {
			c.t.Errorf("ended with %v", exit)
		}
	}
	c.leftNothing(c.t)
}

// I1, I8: many processes at a time are started, found, measured and ended.
func TestI1I8ManyProcessesAreKept(t *testing.T) {
	t.Parallel()
	eachPen(t, testManyProcessesAreKept)
}

func testManyProcessesAreKept(t *testing.T, cgroup string) {
	t.Helper()
	c := newCrowd(t, cgroup)
	count := testkit.Sized(t, 30, 1000)
	c.growTo(count)
	if usage, err := c.instances[count-1].Usage(t.Context()); err != nil || usage.MemUsed == 0 {
		t.Errorf("usage %+v, %v", usage, err)
	}
	if ids, err := c.Find(t.Context()); err != nil || len(ids) != count {
		t.Errorf("found %d, %v", len(ids), err)
	}
	c.end()
}

// mostPerProcess is what a process may cost the agent in the runtime, in bytes, of the
// 24 KiB that a backend may cost it in all.
const mostPerProcess = 12 << 10

// I8: what the runtime holds for each of many processes, heap and stacks, and resident memory.
func TestI8MemoryOfManyProcessesIsLittle(t *testing.T) {
	// Not in parallel: it measures what this process holds.
	c := newCrowd(t, "")
	const first = 20 // what the first ones cost is not theirs
	count := testkit.Sized(t, 150, 1000)
	c.growTo(first)
	heap, resident := held(t)
	c.growTo(first + count)
	heapAfter, residentAfter := held(t)
	perHeap, perResident := (heapAfter-heap)/count, (residentAfter-resident)/count
	t.Logf("a process costs %d bytes of heap and stacks, %d of resident memory", perHeap, perResident)
	if perHeap > mostPerProcess || perResident > mostPerProcess {
		t.Errorf("at most %d are allowed", mostPerProcess)
	}
	c.end()
}

// held is what this process holds: heap and stacks, and resident memory that is not of
// files.
func held(t *testing.T) (heap, resident int) {
	t.Helper()
	for range 4 { // stacks shrink by half per collection
		goruntime.GC()
	}
	debug.FreeOSMemory()
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
