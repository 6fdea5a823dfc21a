package testkit

import (
	"errors"
	"os"
	"os/exec"
	"regexp"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// OwnNetwork gives a test a network of its own, with a loopback and nothing else, where it
// can touch neither that of the machine nor another test's. For that the test is run once
// more, in a process of its own, which it may change as it likes: in the first one OwnNetwork waits
// for that one, beside other tests that are parallel, takes over its result, and says false;
// the test then returns. It takes root.
func OwnNetwork(t *testing.T) bool {
	t.Helper()
	if os.Getenv(inOwnNetwork) == t.Name() {
		if err := RaiseLoopback(); err != nil {
			t.Fatalf("bring up the loopback: %v", err)
		}
		return true
	}
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^"+regexp.QuoteMeta(t.Name())+"$", "-test.v", "-test.count=1", "-test.timeout=0")
	cmd.Env = append(os.Environ(), inOwnNetwork+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	said, err := cmd.CombinedOutput()
	if t.Logf("in a network of its own:\n%s", said); err != nil {
		t.Error(err)
	}
	return false
}

// RaiseLoopback brings up the loopback of a network that is this process's own.
func RaiseLoopback() (err error) {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Close(socket)) }()
	loopback, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	loopback.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, loopback)
}
