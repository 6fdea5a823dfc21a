package process_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/process"
	"github.com/jetway-project/jetway/internal/testkit"
)

// newBad is a runtime whose processes outlive the agent, for what should not be run.
func newBad(t *testing.T, change func(*process.Config)) *heir {
	t.Helper()
	h := newHeir(t)
	if change != nil {
		change(&h.config)
	}
	h.open(t)
	return h
}

// script starts a shell script.
func (h *heir) script(t *testing.T, body string) *process.Instance {
	t.Helper()
	if err := writeScript(h.root, "script", body); err != nil {
		t.Fatal(err)
	}
	spec := h.specOf()
	spec.Executable = []byte(`{"command": ["script"]}`)
	return h.start(spec)
}

func TestBadCommandLeavesNothing(t *testing.T) {
	t.Parallel()
	h := newBad(t, nil)
	for name, content := range map[string]string{
		"plain": "text", "garbage": "\x7fELF not really", "lost": "#!/no/such/interpreter\n",
		"dos": "#!/bin/sh\r\necho\r\n", "foreign": foreign(t),
	} {
		mode := os.FileMode(0o755)
		if name == "plain" {
			mode = 0o644
		}
		if err := os.WriteFile(filepath.Join(h.root, name), []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	for command, want := range map[string]string{
		"missing": "does not exist; install it there",
		"plain":   "is not executable; make it so with chmod +x",
		"garbage": "cannot be started: exec format error",
		"lost":    `cannot be started: no such file or directory: its first line names the interpreter "/no/such/interpreter", which is not there`,
		"dos":     `names the interpreter "/bin/sh\r", with a carriage return at the end: write it with Unix line ends`,
		"foreign": "what loads it is not on the drone's machine: link it statically",
	} {
		spec := h.specOf()
		spec.Executable = fmt.Appendf(nil, `{"command": [%q]}`, command)
		if instance, err := h.Start(t.Context(), spec); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, %v, want %q", command, instance, err, want)
		}
	}
	spec := h.specOf()
	spec.BackendID = "../b"
	if _, err := h.Start(t.Context(), spec); err == nil || !strings.Contains(err.Error(), "backend_id") {
		t.Errorf("an id that is a path: %v", err)
	}
	h.leftNothing(t)
}

// foreign is a program of another system's libraries: its loader is not here.
func foreign(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Replace(string(raw), "/ld-linux", "/no-linux", 1)
}

func TestExitAtOnceLeavesNothing(t *testing.T) {
	t.Parallel()
	h := newBad(t, nil)
	for code := range 20 {
		instance := h.script(t, fmt.Sprintf("echo last words; exit %d", code))
		if exit := h.exit(instance); exit != (runtime.Exit{Code: code}) {
			t.Fatalf("ended with %v", exit)
		}
		h.line("last words") // came before Done
		h.leftNothing(t)
	}
}

// One that never listens is for the drone to give up; the runtime ends it like others,
// also when it is stopped or ignores SIGTERM.
func TestWhatDoesNotEndIsEnded(t *testing.T) {
	t.Parallel()
	h := newBad(t, nil)
	for body, hard := range map[string]bool{
		"exec sleep 1000": false,
		"trap 'exit 0' TERM; echo on; kill -STOP $$; while :; do sleep 1000 & wait; done": false,
		"trap '' TERM; echo on; while :; do sleep 1000; done":                             true,
	} {
		instance := h.script(t, body)
		if strings.Contains(body, "on;") {
			h.line("on")
		}
		if err := instance.Terminate(t.Context(), hard); err != nil {
			t.Fatal(err)
		}
		h.exit(instance)
		h.leftNothing(t)
	}
}

// Children in the group and out of it, of which the first process knows nothing any
// more, end with it (I1), however fast they are made.
func TestI1ForkedChildrenEndWithTheProcess(t *testing.T) {
	t.Parallel()
	eachPen(t, testForkedChildrenEnd)
}

func testForkedChildrenEnd(t *testing.T, cgroup string) {
	t.Helper()
	h := newBad(t, func(c *process.Config) { c.Cgroup = cgroup })
	instance := h.script(t, `
for n in 1 2 3 4 5; do
	sh -c 'trap "" TERM HUP; while :; do sleep 1000; done' &
	setsid sh -c 'trap "" TERM HUP; echo escaped; while :; do sleep 1000; done' &
done
(while :; do sleep 0.01 & done) & # makes more until it is killed
read line < /dev/null
wait %2 2>/dev/null; sleep 1000`)
	for range 5 {
		h.line("escaped")
	}
	if err := instance.Terminate(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	h.exit(instance)
	h.leftNothing(t)
}

// I8: however much passes through, it takes the same memory, and the process is not held up.
func TestI8OutputTakesBoundedMemory(t *testing.T) {
	// Not in parallel: it measures what this process holds.
	h := newBad(t, nil)
	for range cap(h.lines) / 2 { // so that the test's own memory does not grow
		h.lines <- runtime.Line{}
	}
	h.rest()
	pass := func(mebibytes int) (heldAfter int) {
		t.Helper()
		spec := h.specOf()
		spec.Executable = fmt.Appendf(nil, `{"command": ["helper", "as=flood", "%d"]}`, mebibytes)
		instance := h.start(spec)
		for done := false; !done; {
			select {
			case <-instance.Done():
				done = true
			case line := <-h.lines:
				if len(line.Text) > 8<<10 {
					t.Fatalf("a line of %d bytes", len(line.Text))
				}
			}
		}
		if exit := instance.Exit(); exit != (runtime.Exit{}) {
			t.Fatalf("ended with %v", exit)
		}
		h.rest()
		heldAfter, _ = held(t)
		return heldAfter
	}
	little, much := testkit.Sized(t, 8, 128), testkit.Sized(t, 64, 1024)
	before := pass(little)
	if after := pass(much); after > before+4<<20 {
		t.Errorf("%d bytes are held after %d MiB, %d after %d", after, much, before, little)
	}
	h.leftNothing(t)
}

// A process that fills its disk gets its own errors, and its agent none.
func TestFullDiskOfTheProcess(t *testing.T) {
	t.Parallel()
	disk := testkit.SmallDisk(t, 1<<20, 100)
	h := newBad(t, func(c *process.Config) { c.Dir = disk })
	instance := h.script(t, `head -c 10000000 /dev/zero > "$TMPDIR/file" || echo failed; exec sleep 1000`)
	h.line("failed")
	var said []string
	for _, line := range h.rest() {
		said = append(said, line.Text)
	}
	if err := instance.Terminate(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if exit := h.exit(instance); exit.Signal != "SIGTERM" {
		t.Fatalf("ended with %v, after %q", exit, said)
	}
	h.leftNothing(t)
}

// A process that uses up its descriptors gets its own errors; its agent and its neighbours have theirs.
func TestI8DescriptorsOfTheProcess(t *testing.T) {
	t.Parallel()
	h := newBad(t, nil)
	h.id = "neighbour"
	neighbour := h.start(h.specOf())
	h.line("ready")
	h.id = "b"
	instance := h.script(t, `ulimit -n 64; i=3; while eval "exec $i< /dev/null"; do i=$((i+1)); done 2>/dev/null; sleep 1000`)
	if exit := h.exit(instance); exit.Code == 0 { // a shell that can open nothing more gives up
		t.Errorf("ended with %v", exit)
	}
	tell(t, neighbour.Address(), "say here")
	h.line("here")
	if err := neighbour.Terminate(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	h.exit(neighbour)
	h.leftNothing(t)
}

// On a full disk of the drone a backend is refused, and what runs runs on.
func TestFullDiskOfTheDrone(t *testing.T) {
	t.Parallel()
	disk := testkit.SmallDisk(t, 1<<20, 8) // what one needs, and half of what the next one does
	h := newBad(t, func(c *process.Config) { c.StateDir = disk })
	first := h.script(t, "echo on; exec sleep 1000")
	h.line("on")
	spec := h.specOf()
	spec.BackendID = "next"
	if instance, err := h.Start(t.Context(), spec); err == nil || !strings.Contains(err.Error(), "make the pipes for the output: no space left on device") || strings.Contains(err.Error(), disk) {
		t.Fatalf("got %v, %v", instance, err)
	}
	watch(t, strconv.Itoa(first.PID())).lives(t)
	if err := first.Terminate(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	h.exit(first)
	h.leftNothing(t)
	h.exit(h.script(t, "exit 0")) // there is room again
}

// A process can do to its own output what it likes: close it, reopen it, or make it
// non-blocking.
func TestProcessMayDoAnythingToItsOutput(t *testing.T) {
	t.Parallel()
	h := newBad(t, nil)
	instance := h.script(t, `echo one > /dev/stdout; echo two >> /proc/self/fd/2; exec 1>&- 2>&-; read line < /dev/null; exit 6`)
	if exit := h.exit(instance); exit.Code != 6 {
		t.Fatalf("ended with %v", exit)
	}
	h.line("one")
	h.leftNothing(t)
	_ = unix.SIGPIPE // which it never gets: see TestOutputWaitsForTheNextAgent
}
