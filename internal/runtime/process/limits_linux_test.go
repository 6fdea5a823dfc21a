package process_test

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/process"
	"github.com/jetway-project/jetway/internal/testkit"
)

// limited starts a backend with limits beside a neighbour, which is not to notice.
func limited(t *testing.T, limits map[string]int64, words ...string) (h *heir, instance, neighbour *process.Instance) {
	t.Helper()
	needsGroups(t)
	h = newHeir(t)
	if _, lacks := h.open(t).(interface {
		Lacks() (string, map[string]string)
	}).Lacks(); len(lacks) > 0 {
		t.Log(lacks)
		testkit.LeaveOut(t, "tests of limits of processes", "run as root, or in a unit with DelegateSubgroup=agent")
	}
	h.id = "neighbour"
	neighbour = h.start(h.specOf())
	h.line("ready")
	h.id = "b"
	spec := h.specOf()
	executable, err := json.Marshal(map[string]any{"command": append([]string{"helper"}, words...), "resource_limits": limits})
	if err != nil {
		t.Fatal(err)
	}
	spec.Executable = executable
	return h, h.start(spec), neighbour
}

// over ends both, and sees that the neighbour did not notice.
func over(t *testing.T, h *heir, instance, neighbour *process.Instance) runtime.Exit {
	t.Helper()
	tell(t, neighbour.Address(), "say here")
	h.line("here")
	exit := h.exit(instance)
	if err := neighbour.Terminate(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if exit := h.exit(neighbour); exit.Code != 7 {
		t.Errorf("the neighbour ended with %v", exit)
	}
	h.leftNothing(t)
	return exit
}

// I8: who fills its memory is killed for it, and told why.
func TestI8MemoryIsBounded(t *testing.T) {
	t.Parallel()
	h, instance, neighbour := limited(t, map[string]int64{"memory_limit_bytes": 64 << 20}, "as=eat", "200")
	if d := h.Demands([]byte(`{"command": ["helper"], "resource_limits": {"memory_limit_bytes": 67108864, "cpu_period_percent": 150}}`)); d != (runtime.Demands{MemoryBytes: 64 << 20, CPUMillis: 1500}) {
		t.Errorf("it demands %+v", d)
	}
	exit := over(t, h, instance, neighbour)
	if want := "ended by SIGKILL: out of memory: the limit is 67108864 bytes"; exit.String() != want {
		t.Fatalf("ended with %v, want %s", exit, want)
	}
}

// I8: a fork bomb gets as many processes as it may, and all of them end with it.
func TestI8ProcessesAreBounded(t *testing.T) {
	t.Parallel()
	forkBomb(t, map[string]int64{"pids_limit": 50}, 50)
}

// I8: and it may not have any number where nobody asked for a limit.
func TestI8ProcessesAreBoundedByDefault(t *testing.T) {
	testkit.Long(t)
	t.Parallel()
	forkBomb(t, nil, 4096)
}

func forkBomb(t *testing.T, limits map[string]int64, want int) {
	t.Helper()
	// Its own threads count, too.
	h, instance, neighbour := limited(t, limits, "as=fork", "10000", strconv.Itoa(want-30))
	if got := h.line("forked "); got != strconv.Itoa(want-30) {
		t.Errorf("it says first to have forked %s", got)
	}
	if err := instance.Terminate(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	h.exit(instance)
	for _, line := range h.rest() {
		if line.Text == fmt.Sprint("forked ", want) {
			t.Errorf("it has %d children and more", want)
		}
	}
	over(t, h, instance, neighbour)
}

// What it may use of the processors is bounded, and what it has used is told.
func TestProcessorIsBounded(t *testing.T) {
	t.Parallel()
	h, instance, neighbour := limited(t, map[string]int64{"cpu_period": 10_000, "cpu_period_percent": 10, "memory_limit_bytes": 256 << 20}, "as=talker")
	h.line("ready")
	tell(t, instance.Address(), "burn 100ms")
	// On a busy machine it may get less than its part anyway.
	testkit.Eventually(t, "it is held back", func() bool {
		tell(t, instance.Address(), "burn 20ms")
		return throttled(t, instance.Handle()) >= 10
	})
	usage, err := instance.Usage(t.Context())
	if err != nil || usage.CPU.Milliseconds() < 90 || usage.MemUsed < 1<<20 || usage.MemLimit != 256<<20 {
		t.Errorf("usage %+v, %v", usage, err)
	}
	if err := instance.Terminate(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	over(t, h, instance, neighbour)
}

// The processor time of a life is bounded.
func TestProcessorTimeIsBounded(t *testing.T) {
	testkit.Long(t)
	t.Parallel()
	h, instance, neighbour := limited(t, map[string]int64{"cpu_time_limit": 1}, "as=talker")
	h.line("ready")
	tell(t, instance.Address(), "burn 1h")
	if exit := over(t, h, instance, neighbour); exit.Signal != "SIGKILL" {
		t.Fatalf("ended with %v", exit)
	}
}

// Limits of more than the machine has are no error: they hold nothing back, whatever of them the kernel takes.
func TestLimitsBeyondTheMachineHoldNothingBack(t *testing.T) {
	t.Parallel()
	h, instance, neighbour := limited(t, map[string]int64{"memory_limit_bytes": 1 << 60, "cpu_period": 1_000_000, "cpu_period_percent": 100_000, "pids_limit": 4096}, "as=talker")
	h.line("ready")
	tell(t, instance.Address(), "burn 1ms")
	if err := instance.Terminate(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	over(t, h, instance, neighbour)
}

// A drone that cannot hold a process to a limit refuses it.
func TestLimitsAreHeldOrRefused(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(c *process.Config) { c.Cgroup = process.NoCgroup })
	for name, limit := range map[string]int64{"memory_limit_bytes": 64 << 20, "cpu_period_percent": 50, "pids_limit": 10} {
		spec := s.spec("as=serve")
		spec.Executable = fmt.Appendf(nil, `{"command": ["helper"], "resource_limits": {%q: %d}}`, name, limit)
		err := s.Prepare(t.Context(), spec)
		if err == nil || !strings.Contains(err.Error(), name+": this drone cannot hold a process to it: told to do without") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// An end never searches the machine: what it costs does not depend on how much else runs.
func TestEndSearchesNothing(t *testing.T) {
	t.Parallel()
	h, instance, neighbour := limited(t, nil, "as=talker")
	h.line("ready")
	before := process.LastLook(h.Runtime)
	if err := instance.Terminate(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	h.exit(instance)
	if _, err := neighbour.Usage(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := process.LastLook(h.Runtime); after != before || before.IsZero() {
		t.Errorf("it has searched the machine at %v, and before at %v", after, before)
	}
	if err := neighbour.Terminate(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	h.exit(neighbour)
}
