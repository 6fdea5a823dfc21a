package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/jetway-project/jetway/internal/runtime"
)

func (r *Runtime) fifo(backendID string, name runtime.Stream) string {
	return filepath.Join(r.config.StateDir, backendID+"."+string(name))
}

// makeFIFOs makes a FIFO per stream. The process gets an end that is open for both
// reading and writing: so a write without an agent to read it neither fails nor
// signals, and what was written is kept as long as the process runs.
func (r *Runtime) makeFIFOs(backendID string, user int) (readers, writers []*os.File, err error) {
	defer func() {
		if err != nil {
			closeAll(readers)
			closeAll(writers)
			r.removeFiles(backendID)
			readers, writers = nil, nil
			err = fmt.Errorf("make the pipes for the output: %w", reason(err))
		}
	}()
	r.removeFiles(backendID) // left by one that ended without an agent
	for _, name := range streamNames {
		path := r.fifo(backendID, name)
		if err := unix.Mkfifo(path, 0o600); err != nil {
			return readers, writers, err
		}
		if err := r.users.own(user, path); err != nil { // it may open its output anew
			return readers, writers, err
		}
		reader, err := openFIFO(path)
		if err != nil {
			return readers, writers, err
		}
		readers = append(readers, reader)
		// Not with os.OpenFile, which would make it non-blocking, for the process too.
		fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return readers, writers, err
		}
		writers = append(writers, os.NewFile(uintptr(fd), path))
	}
	return readers, writers, nil
}

// openFIFOs opens what there is to read from a process that runs; nil where it has been
// removed.
func (r *Runtime) openFIFOs(backendID string) (readers []*os.File, err error) {
	for _, name := range streamNames {
		reader, err := openFIFO(r.fifo(backendID, name))
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		if err != nil {
			closeAll(readers)
			return nil, fmt.Errorf("open the pipe of its %s: %w", name, err)
		}
		readers = append(readers, reader)
	}
	return readers, nil
}

// openFIFO opens one to read from, which waits for no writer; a read does.
func openFIFO(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err == nil {
		err = unix.SetNonblock(fd, false)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// removeFiles removes what the state directory has of a backend, but for its own directory.
func (r *Runtime) removeFiles(backendID string) {
	if !r.outlives() {
		return
	}
	for _, name := range streamNames {
		_ = os.Remove(r.fifo(backendID, name)) // what is left is removed at the next start
	}
	_ = os.Remove(r.noteOf(backendID))
}
