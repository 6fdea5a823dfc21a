// Package identity is who a drone's agent is: its name, which one agent of a machine
// has at a time, and the machine, as the workers tell machines apart.
//
// What holds:
//
//   - I1 exclusive: whoever registers with the same machine id and boot id as a session
//     before it is the one that can look at that one's processes, and so may say of what
//     it does not name that it does not run. The machine id is random and lives in the
//     data directory. A copy of the directory is another machine: the id is written
//     together with the file's own device and inode number, and where these are others
//     (a cloned image, two containers on one kernel, a restored backup) it is replaced.
//     So is one that cannot be read. A new id is always safe: what the one before held has
//     to wait for the end of its lease.
//   - Without a data directory nothing outlives a run, and each has an id of its own, unless
//     whoever starts it keeps one (Keep): then the next run need not wait until the one before is no longer heard.
//   - One agent of this machine has a name, whatever its data directory, and whichever
//     workers it talks to: the next one is told who has it. The kernel holds the name for the
//     process (an abstract Unix socket), so it is free when the process ends, however it
//     ends. It reaches across users, and PID and mount namespaces; an agent in another
//     network namespace counts as one on another machine, which the workers tell apart.
//     An agent without a data directory holds no name: it takes nothing over that another
//     could have. On macOS there is no lock but that of the data directory.
//
// Who closes what: who takes an identity releases it. It owns one goroutine meanwhile,
// which tells others who has the name.
package identity

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/jetway-project/jetway/internal/boottime"
)

const fileName = "machine-id"

// ErrNameTaken says that another agent of this machine has the name.
var ErrNameTaken = errors.New("another agent of this machine has this name")

// Identity is who an agent is. Take makes it.
type Identity struct {
	// MachineID is a random id of this machine's data directory, BootID the kernel's of
	// this boot. Both have the form of a session.
	MachineID, BootID string

	name io.Closer
}

// Keep finds or makes the machine's id in a directory that one agent has at a time, for an agent whose
// backends do not outlive it, and which so needs no name of its own.
func Keep(name, dir string, log *slog.Logger) (*Identity, error) {
	boot, err := boottime.BootID()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("directory of the machine's id: %w", err)
	}
	return &Identity{MachineID: machineID(filepath.Join(dir, fileName), log.With("drone", name)), BootID: boot}, nil
}

// Take takes a drone's name for this process, and finds or makes the machine's id in the
// drone's data directory; with dataDir "" the id is that of this run, and the name is
// nobody's. It returns ErrNameTaken when another agent has the name.
func Take(name, dataDir string, log *slog.Logger) (*Identity, error) {
	boot, err := boottime.BootID()
	if err != nil {
		return nil, err
	}
	if dataDir == "" {
		return &Identity{MachineID: newID(), BootID: boot}, nil
	}
	if dataDir, err = filepath.Abs(dataDir); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	held, err := takeName(name, dataDir)
	if err != nil {
		return nil, fmt.Errorf("drone's name %s: %w", name, err)
	}
	if err := os.MkdirAll(dataDir, 0o700); err != nil {
		return nil, errors.Join(fmt.Errorf("data directory: %w", err), held.Close())
	}
	return &Identity{MachineID: machineID(filepath.Join(dataDir, fileName), log.With("drone", name)), BootID: boot, name: held}, nil
}

// Release lets another agent have the name.
func (i *Identity) Release() error {
	if i.name == nil {
		return nil
	}
	return i.name.Close()
}

func newID() string { return strings.ToLower(rand.Text()) }

// machineID reads a machine's id, or makes another one where there is none of this
// directory. One that cannot be kept is that of this run alone, which is as safe.
func machineID(path string, log *slog.Logger) string {
	id, err := read(path)
	if err == nil {
		return id
	}
	if !errors.Is(err, fs.ErrNotExist) {
		log.Warn("this machine gets a new id: what an agent with the one before still holds is not renewed, and its keys are free when its lease ends",
			"file", path, "err", err)
	}
	id = newID()
	if err := write(path, id); err != nil {
		log.Warn("this machine's id cannot be kept: the next run of the agent has another one, and has to wait for the end of this one's lease",
			"file", path, "err", err)
	}
	return id
}

func read(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	raw, err := io.ReadAll(io.LimitReader(file, 256))
	if err != nil {
		return "", err
	}
	where, err := placeOf(file)
	if err != nil {
		return "", err
	}
	id, was, _ := strings.Cut(strings.TrimSuffix(string(raw), "\n"), " ")
	switch {
	case !isID(id) || was == "":
		return "", fmt.Errorf("it is damaged: %.60q", raw)
	case was != where:
		return "", errors.New("it was copied from elsewhere")
	}
	return id, nil
}

// isID tells what newID gives.
func isID(text string) bool {
	return len(text) == len(rand.Text()) && strings.Trim(text, "abcdefghijklmnopqrstuvwxyz234567") == ""
}

// write writes the file whole or not at all. It needs no fsync: nothing that an id speaks
// for outlives a boot.
func write(path, id string) (err error) {
	fresh := path + ".new"
	file, err := os.OpenFile(fresh, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	where, err := placeOf(file)
	if err == nil {
		_, err = fmt.Fprintf(file, "%s %s\n", id, where)
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	return os.Rename(fresh, path)
}

// placeOf is what a copy of a file does not share with it.
func placeOf(file *os.File) (string, error) {
	info, err := file.Stat()
	if err != nil {
		return "", err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "", errors.New("the system does not tell its number")
	}
	return fmt.Sprintf("%d %d", stat.Dev, stat.Ino), nil
}
