package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jetway-project/jetway/internal/runtime"
)

// Group is one backend's.
type Group struct {
	base *Base
	dir  string
}

// Make makes a group with limits, in which nothing runs yet.
func (b *Base) Make(name string, limits Limits) (*Group, error) {
	g := &Group{base: b, dir: filepath.Join(b.dir, name)}
	err := os.Mkdir(g.dir, 0o755)
	if errors.Is(err, fs.ErrExist) { // left by one that has ended
		if err = g.Remove(); err == nil {
			err = os.Mkdir(g.dir, 0o755)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("make a control group: %w", err)
	}
	if err := g.limit(limits); err != nil {
		return nil, errors.Join(err, g.Remove())
	}
	return g, nil
}

// At is the group of that directory, which an earlier run of the agent has made, or nil
// where there is none.
func (b *Base) At(dir string) *Group {
	if b == nil {
		b = &Base{}
	}
	if dir == "" || !exists(filepath.Join(dir, "cgroup.kill")) {
		return nil
	}
	return &Group{base: b, dir: dir}
}

// Dir is where the group is, for Kill and Populated of whoever does not have it.
func (g *Group) Dir() string { return g.dir }

// Open opens the group for the clone that puts a process into it.
func (g *Group) Open() (*os.File, error) {
	return os.OpenFile(g.dir, os.O_RDONLY|unix.O_DIRECTORY, 0)
}

// Kill ends all that runs in the group.
func (g *Group) Kill() error { return Kill(g.dir) }

// Kill ends all that runs in the group of that directory, and below it; nothing where there is
// no such group.
func Kill(dir string) error {
	if dir == "" {
		return nil
	}
	err := write(dir, "cgroup.kill", "1")
	if err != nil && !gone(err) {
		return fmt.Errorf("kill a control group: %w", err)
	}
	return nil
}

// MayKill says whether this process may end what runs in the group of that directory.
func MayKill(dir string) bool {
	return dir != "" && unix.Access(filepath.Join(dir, "cgroup.kill"), unix.W_OK) == nil
}

// Populated says whether anything runs in the group of that directory, or below it.
func Populated(dir string) (bool, error) {
	if dir == "" {
		return false, nil
	}
	raw, err := os.ReadFile(filepath.Join(dir, "cgroup.events"))
	if gone(err) {
		return false, nil
	}
	return strings.Contains(string(raw), "populated 1"), err
}

// gone says that there is no such group any more.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) }

// Wait waits until nothing runs in the group any more, or the channel is closed.
func (g *Group) Wait(closing <-chan struct{}) error {
	const again = 100 // ms; the kernel tells of the change at once, the channel is asked so often
	events, err := unix.Open(filepath.Join(g.dir, "cgroup.events"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	for err == nil {
		var text [256]byte
		var n int
		if n, err = unix.Pread(events, text[:], 0); err == nil && !strings.Contains(string(text[:n]), "populated 1") {
			break
		}
		select {
		case <-closing:
			err = os.ErrClosed
		default:
			if err == nil {
				_, _ = unix.Poll([]unix.PollFd{{Fd: int32(events), Events: unix.POLLPRI}}, again)
			}
		}
		if errors.Is(err, unix.EINTR) {
			err = nil
		}
	}
	if events >= 0 {
		_ = unix.Close(events)
	}
	if err == nil || gone(err) {
		return nil
	}
	return fmt.Errorf("wait for a control group: %w", err)
}

// Remove removes the group, in which nothing runs, and what the backend made below it.
func (g *Group) Remove() error {
	dirs := []string{g.dir}
	for _, controller := range []string{memory, cpu, pids} {
		if dir, v1 := g.v1(controller); v1 {
			dirs = append(dirs, dir)
		}
	}
	var errs []error
	for _, dir := range dirs {
		errs = append(errs, remove(dir))
	}
	return errors.Join(errs...)
}

// remove removes a directory of groups; their files go with them.
func remove(dir string) error {
	err := unix.Rmdir(dir)
	if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.ENOTEMPTY) {
		entries, _ := os.ReadDir(dir)
		for _, entry := range entries {
			if entry.IsDir() {
				_ = remove(filepath.Join(dir, entry.Name()))
			}
		}
		err = unix.Rmdir(dir)
	}
	if err != nil && !gone(err) {
		return fmt.Errorf("remove the control group %s: %w", dir, err)
	}
	return nil
}

// Processes are the numbers of what runs in the group of that directory itself.
func Processes(dir string) (pids []int, err error) {
	if dir == "" {
		return nil, nil
	}
	raw, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if gone(err) {
		return nil, nil
	}
	for word := range strings.FieldsSeq(string(raw)) {
		if pid, err := strconv.Atoi(word); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids, err
}

// Usage is what the group uses now. Where no controller counts memory, that is left for
// the caller to count.
func (g *Group) Usage() (u runtime.Usage, counted bool) {
	u.CPU = time.Duration(keyed(g.dir, "cpu.stat")["usage_usec"]) * time.Microsecond
	dir, v1 := g.v1(memory)
	used, limit := "memory.current", "memory.max"
	if v1 {
		used, limit = "memory.usage_in_bytes", "memory.limit_in_bytes"
	}
	total, ok := number(dir, used)
	if !ok {
		return u, false
	}
	cpu := u.CPU
	u = Memory(total, keyed(dir, "memory.stat"))
	u.CPU = cpu
	if most, ok := number(dir, limit); ok && most < 1<<60 { // v1 says a huge number for none
		u.MemLimit = most
	}
	return u, true
}

// number reads a file that is one number.
func number(dir, file string) (uint64, bool) {
	raw, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(raw)), 10, 64)
	return n, err == nil
}
