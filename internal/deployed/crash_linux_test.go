package deployed

import (
	"io"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
)

// The demand: what crashes, or is aborted by its watchdog, is started again. Units do not start again what exits
// with 2, for wrong use, which is also how a Go program ends that panics.
func TestACrashIsNoWrongUse(t *testing.T) {
	testkit.Long(t) // it compiles jetway; the package's test under systemd sees it, too
	program := filepath.Join(t.TempDir(), "jetway")
	if err := testkit.Build(t.Context(), program, "github.com/jetway-project/jetway/cmd/jetway"); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, "proxy", "--listen", "127.0.0.1:0", "--nats", natstest.Own(t).URL())
	said, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := said.Read(make([]byte, 1)); err != nil { // it runs, for it logs
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, said) }()
	if err := cmd.Process.Signal(syscall.SIGABRT); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if status := cmd.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != syscall.SIGABRT {
		t.Errorf("an aborted jetway has the status %d", status)
	}
}
