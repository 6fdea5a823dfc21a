package process_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/cgroup"
	"github.com/jetway-project/jetway/internal/runtime/process"
	"github.com/jetway-project/jetway/internal/testkit"
)

// heir is a stage whose processes outlive it, and which has an agent before it.
type heir struct {
	*stage
	config process.Config
	id     string
}

func newHeir(t *testing.T) *heir {
	t.Helper()
	h := &heir{id: "b"}
	h.config = process.Config{
		Root: newRoot(t), StateDir: filepath.Join(t.TempDir(), "state"),
		// Nobody else's on this machine.
		Drone: fmt.Sprintf("dr-%x", rand.Uint64()),
	}
	t.Cleanup(func() { removeGroups(t, h.config.Drone+".*") })
	return h
}

// newHeirIn has what it runs found in control groups, or with process.NoCgroup by labels alone.
func newHeirIn(t *testing.T, parent string) *heir {
	t.Helper()
	h := newHeir(t)
	h.config.Cgroup = parent
	return h
}

// eachPen runs a test with control groups and without.
func eachPen(t *testing.T, test func(t *testing.T, parent string)) {
	t.Helper()
	for name, parent := range map[string]string{"in control groups": "", "by labels alone": process.NoCgroup} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if parent == "" {
				needsGroups(t)
			}
			test(t, parent)
		})
	}
}

// needsGroups leaves a test out where this process can make no control groups.
func needsGroups(t *testing.T) {
	t.Helper()
	r, err := process.New(process.Config{Root: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if why, _ := r.(*process.Runtime).Lacks(); why != "" {
		t.Log(why)
		testkit.LeaveOut(t, "tests of control groups", "run as root, or in a unit with Delegate=yes")
	}
}

// removeGroups removes what a test's agents, which were killed, have left.
func removeGroups(t *testing.T, name string) {
	t.Helper()
	for _, root := range []string{"/sys/fs/cgroup/jetway", "/sys/fs/cgroup/*/jetway"} {
		groups, _ := filepath.Glob(filepath.Join(root, name, "*", "cgroup.procs"))
		for _, group := range groups {
			dir := filepath.Dir(group)
			_ = cgroup.Kill(dir)
			testkit.Eventually(t, "the control group is empty", func() bool { err := unix.Rmdir(dir); return err == nil || err == unix.ENOENT })
		}
		bases, _ := filepath.Glob(filepath.Join(root, name))
		for _, base := range bases {
			_ = unix.Rmdir(base)
		}
	}
}

// open opens the runtime that takes over.
func (h *heir) open(t *testing.T) runtime.Adopter {
	t.Helper()
	h.stage = newStage(t, func(c *process.Config) { *c = h.config })
	adopter, ok := h.Runtime.(runtime.Adopter)
	if !ok {
		t.Fatal("it is no adopter")
	}
	return adopter
}

func (h *heir) specOf() runtime.Spec {
	spec := h.spec("as=talker")
	spec.BackendID = h.id
	spec.Env = map[string]string{runtime.EnvBackendID: h.id}
	return spec
}

// adopt takes the talker over, after a test has let it be without an agent.
func (h *heir) adopt(t *testing.T, handle string) *process.Instance {
	t.Helper()
	instance, err := h.open(t).Adopt(t.Context(), h.specOf(), handle)
	if err != nil {
		t.Fatal(err)
	}
	return instance.(*process.Instance)
}

// orphan is a talker whose agent was killed.
type orphan struct {
	watched
	pid             int
	address, handle string
}

func (h *heir) orphan(t *testing.T) *orphan {
	t.Helper()
	agent := exec.Command(filepath.Join(h.config.Root, "helper"), "as=lasting", h.config.Root, h.config.StateDir, h.config.Drone, h.id, h.config.Cgroup)
	agent.Stderr = os.Stderr
	output, err := agent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for lines := bufio.NewScanner(output); len(got) < 4; {
		if !lines.Scan() {
			t.Fatal("the agent ended")
		}
		word, rest, _ := strings.Cut(lines.Text(), " ")
		got[word] = rest
	}
	if got["line"] != "ready" {
		t.Fatalf("it said %q", got["line"])
	}
	o := &orphan{watched: watch(t, got["pid"]), address: got["address"], handle: got["handle"]}
	o.pid, _ = strconv.Atoi(got["pid"])
	t.Cleanup(func() { _ = unix.Kill(-o.pid, unix.SIGKILL) })
	if err := agent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = agent.Wait()
	o.lives(t)
	return o
}

func (w watched) lives(t *testing.T) {
	t.Helper()
	if w.endsWithin(0) {
		t.Fatal("it has ended")
	}
}

func (w watched) ends(t *testing.T) {
	t.Helper()
	if !w.endsWithin(testkit.Patience) {
		t.Fatal("it lives")
	}
}

// tell gives a talker an order and returns what it answers.
func tell(t *testing.T, address, order string) string {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := fmt.Fprintln(conn, order); err != nil {
		t.Fatal(err)
	}
	answer, _ := io.ReadAll(conn)
	return string(answer)
}

// knows says whether the kernel tells how a process ended that was another's child.
func knows(t *testing.T) bool {
	t.Helper()
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		t.Fatal(err)
	}
	var major, minor int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(name.Release[:]), "%d.%d", &major, &minor); err != nil {
		t.Fatal(err)
	}
	return major > 6 || major == 6 && minor >= 15
}

func checkExit(t *testing.T, got, want runtime.Exit) {
	t.Helper()
	if got == want {
		return
	}
	if knows(t) || got.Code != -1 || !strings.Contains(got.Message, "exit code is not known") {
		t.Fatalf("ended with %+v, want %+v", got, want)
	}
}

func TestI1AdoptedProcessIsAsBefore(t *testing.T) {
	t.Parallel()
	eachPen(t, testI1AdoptedProcessIsAsBefore)
}

func testI1AdoptedProcessIsAsBefore(t *testing.T, parent string) {
	t.Helper()
	for name, handleOf := range map[string]func(*orphan) string{
		"by handle":   func(o *orphan) string { return o.handle },
		"by its note": func(*orphan) string { return "" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHeirIn(t, parent)
			orphan := h.orphan(t)
			tell(t, orphan.address, "say while there was no agent")
			instance := h.adopt(t, handleOf(orphan))
			if instance.Address() != orphan.address || instance.PID() != orphan.pid || instance.Handle() != orphan.handle {
				t.Fatalf("adopted %s, %d, %q of %+v", instance.Address(), instance.PID(), instance.Handle(), orphan)
			}
			h.line("while there was no agent")
			tell(t, orphan.address, "say with the next agent")
			h.line("with the next agent")
			orphan.lives(t)
			if err := instance.Terminate(t.Context(), false); err != nil {
				t.Fatal(err)
			}
			checkExit(t, h.exit(instance), runtime.Exit{Code: 7})
			h.line("goodbye")
			h.leftNothing(t)
		})
	}
}

// leftNothing checks that nothing is left in the state directory: what is large is removed
// after the end.
func (h *heir) leftNothing(t *testing.T) {
	t.Helper()
	testkit.Eventually(t, "the state directory is empty", func() bool {
		entries, err := os.ReadDir(h.config.StateDir)
		return err == nil && len(entries) == 0
	})
	if ids, err := h.Runtime.(runtime.Adopter).Find(context.Background()); err != nil || len(ids) != 0 {
		t.Errorf("left running: %v, %v", ids, err)
	}
}

func TestAdoptedProcessEndsInEveryWay(t *testing.T) {
	t.Parallel()
	eachPen(t, testAdoptedProcessEndsInEveryWay)
}

func testAdoptedProcessEndsInEveryWay(t *testing.T, parent string) {
	t.Helper()
	for name, test := range map[string]struct {
		order string // to the process; "": it is killed
		want  runtime.Exit
	}{
		"by itself": {"exit 3", runtime.Exit{Code: 3}},
		"with 0":    {"exit 0", runtime.Exit{}},
		"hard":      {"", runtime.Exit{Code: -1, Signal: "SIGKILL"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHeirIn(t, parent)
			orphan := h.orphan(t)
			inGroup := watch(t, tell(t, orphan.address, "child"))
			escaped := watch(t, tell(t, orphan.address, "child setsid"))
			instance := h.adopt(t, orphan.handle)
			if test.order != "" {
				tell(t, orphan.address, test.order)
			} else if err := instance.Terminate(t.Context(), true); err != nil {
				t.Fatal(err)
			}
			checkExit(t, h.exit(instance), test.want)
			for _, process := range []watched{orphan.watched, inGroup, escaped} {
				process.ends(t)
			}
			h.leftNothing(t)
			for _, hard := range []bool{false, true} {
				if err := instance.Terminate(t.Context(), hard); err != nil {
					t.Fatalf("terminate after the end: %v", err)
				}
			}
		})
	}
}

// A process that ended without an agent comes with Done closed, once nothing of it is
// left.
func TestI1AdoptingWhatHasEndedEndsWhatIsLeft(t *testing.T) {
	t.Parallel()
	eachPen(t, testI1AdoptingWhatHasEndedEndsWhatIsLeft)
}

func testI1AdoptingWhatHasEndedEndsWhatIsLeft(t *testing.T, parent string) {
	t.Helper()
	for name, handleOf := range map[string]func(*orphan) string{
		"by handle":       func(o *orphan) string { return o.handle },
		"by its note":     func(*orphan) string { return "" },
		"of another boot": func(o *orphan) string { return o.handle[:len(o.handle)-1] + "x" },
		"not a handle":    func(*orphan) string { return "nonsense" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHeirIn(t, parent)
			orphan := h.orphan(t)
			inGroup := watch(t, tell(t, orphan.address, "child"))
			escaped := watch(t, tell(t, orphan.address, "child setsid"))
			if err := unix.Kill(orphan.pid, unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			orphan.ends(t)
			inGroup.lives(t)
			instance := h.adopt(t, handleOf(orphan))
			if exit := h.exit(instance); exit.Code != -1 || !strings.Contains(exit.Message, "while no agent ran") && !strings.Contains(exit.Message, "not known") && exit.Signal != "SIGKILL" {
				t.Fatalf("ended with %+v", exit)
			}
			inGroup.ends(t)
			escaped.ends(t)
			h.leftNothing(t)
		})
	}
}

func TestAdoptHarmsNoStranger(t *testing.T) {
	t.Parallel()
	h := newHeir(t)
	stranger := newHeir(t).orphan(t)
	var pid, start, port int
	var boot string
	if _, err := fmt.Sscan(stranger.handle, &pid, &start, &port, &boot); err != nil {
		t.Fatal(err)
	}
	// Its number was ours once, as far as the handle says.
	instance := h.adopt(t, fmt.Sprintf("%d %d %d %s", pid, start-1, port, boot))
	if err := instance.Terminate(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	h.exit(instance)
	stranger.lives(t)
}

func TestNeverStartedIsAdoptedAsEnded(t *testing.T) {
	t.Parallel()
	h := newHeir(t)
	instance := h.adopt(t, "")
	if exit := h.exit(instance); exit.Code != -1 || exit.Message == "" {
		t.Fatalf("ended with %+v", exit)
	}
}

// A process that writes more than a pipe holds waits while there is no agent, and
// goes on with the next one, which gets all of it.
func TestOutputWaitsForTheNextAgent(t *testing.T) {
	t.Parallel()
	h := newHeir(t)
	h.config.LogLines, h.config.LogBytes = 1_000_000, 1<<30
	orphan := h.orphan(t)
	tell(t, orphan.address, "flood 5000")
	tell(t, orphan.address, "child") // it still answers
	orphan.lives(t)
	h.adopt(t, orphan.handle)
	for n := range 5000 {
		h.line(fmt.Sprintf("flood %d ", n))
	}
	h.line("flooded")
}

func TestCloseLetsGo(t *testing.T) {
	t.Parallel()
	h := newHeir(t)
	first := h.open(t)
	started, err := first.Start(t.Context(), h.specOf())
	if err != nil {
		t.Fatal(err)
	}
	h.line("ready")
	if _, err := first.Start(t.Context(), h.specOf()); err == nil || !strings.Contains(err.Error(), "runs already") {
		t.Errorf("a second start: %v", err)
	}
	again, err := first.Adopt(t.Context(), h.specOf(), started.Handle())
	if err != nil || again != started {
		t.Errorf("adopted %v (%v), not what runs", again, err)
	}
	running := watch(t, strconv.Itoa(started.PID()))
	for range 2 {
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
	}
	running.lives(t)
	select {
	case <-started.Done():
		t.Fatal("Done is closed of a process that runs")
	default:
	}
	tell(t, started.Address(), "say between")

	second := h.open(t)
	ids, err := second.Find(t.Context())
	if err != nil || !slices.Equal(ids, []string{h.id}) {
		t.Fatalf("found %v, %v", ids, err)
	}
	adopted, err := second.Adopt(t.Context(), h.specOf(), started.Handle())
	if err != nil {
		t.Fatal(err)
	}
	h.line("between")
	tell(t, adopted.Address(), "exit 5")
	if exit := h.exit(adopted.(*process.Instance)); exit.Code != 5 {
		t.Fatalf("ended with %v", exit)
	}
	h.leftNothing(t)
}
