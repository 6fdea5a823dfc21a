package guard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jetway-project/jetway/internal/procs"
)

// environment is all that the guard gets of one. It keeps the guard small, which has
// next to nothing on its heap, and so the last in line when memory runs out.
var environment = []string{"GOGC=50", "GOMEMLIMIT=24MiB", "GOMAXPROCS=1"}

// post starts one guard and returns when it has ended, and why, or nil when ctx has:
// it goes on then. stood says that it has stood.
func (p *Post) post(ctx context.Context) (stood bool, err error) {
	said, process, err := p.launch()
	if err != nil {
		return false, fmt.Errorf("start %q: %w", p.command, err)
	}
	let := context.AfterFunc(ctx, func() {
		said.Close()
		process.Close()
	})
	defer func() {
		if let() {
			said.Close()
			process.Close()
		}
	}()
	err = awaitStands(said)
	if stood = err == nil; stood {
		p.set(true)
		p.log.InfoContext(ctx, "a guard stands", "pid", process.PID)
	} else if ctx.Err() == nil {
		_ = process.Signal(unix.SIGKILL)
	}
	if process.Wait() != nil {
		return stood, nil
	}
	var status unix.WaitStatus
	if _, waitErr := unix.Wait4(process.PID, &status, 0, nil); waitErr != nil && err == nil {
		err = waitErr
	}
	switch {
	case status.Signaled():
		return stood, errors.Join(err, fmt.Errorf("ended by %s", unix.SignalName(status.Signal())))
	default:
		return stood, errors.Join(err, fmt.Errorf("exit code %d", status.ExitStatus()))
	}
}

// awaitStands returns nil when the guard says that it stands.
func awaitStands(said *os.File) error {
	if err := said.SetReadDeadline(time.Now().Add(standPatience)); err != nil {
		return err
	}
	word := make([]byte, len(stands))
	switch _, err := io.ReadFull(said, word); {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("it did not stand within %s", standPatience)
	case err != nil:
		return errors.New("it ended before it stood")
	case string(word) != stands:
		return fmt.Errorf("it said %q instead of %q", word, stands)
	}
	return nil
}

// launch starts a guard in a session of its own, with nothing of this process but a
// pipe for its word that it stands. What it says before it has a log of its own, or
// when it panics, goes to the log.
func (p *Post) launch() (said *os.File, process *procs.Ref, err error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, nil, err
	}
	defer null.Close()
	log, err := openLog(p.dir)
	if err != nil {
		return nil, nil, err
	}
	defer log.Close()
	said, say, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer say.Close()
	pidfd := -1
	args := append(slices.Clone(p.command), "--dir", p.dir)
	pid, err := syscall.ForkExec(args[0], args, &syscall.ProcAttr{
		Dir:   "/",
		Env:   environment,
		Files: []uintptr{null.Fd(), say.Fd(), log.Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true, PidFD: &pidfd},
	})
	if err != nil {
		said.Close()
		return nil, nil, err
	}
	id, err := procs.Identify(pid) // it cannot be reaped but by this process
	if err == nil {
		process, err = procs.Take(id, pidfd)
	}
	if err != nil {
		said.Close()
		_ = unix.Kill(pid, unix.SIGKILL)
		_, _ = unix.Wait4(pid, nil, 0, nil)
	}
	return said, process, err
}

// maxLog bounds each of the two files of the guard's log, in bytes.
const maxLog = 256 << 10

// openLog opens the guard's log for appending: a new one if it is full, and the one
// before is kept.
func openLog(dir string) (*os.File, error) {
	path := filepath.Join(dir, logName)
	if info, err := os.Stat(path); err == nil && info.Size() >= maxLog {
		if err := os.Rename(path, path+".1"); err != nil {
			return nil, err
		}
	}
	return os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
}
