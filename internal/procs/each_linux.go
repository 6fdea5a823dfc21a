package procs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// maxEnviron bounds how much of an environment is looked at, in bytes. The kernel's
// own limit for one start is of this order.
const maxEnviron = 2 << 20

// Env is the environment that a process was started with, as /proc has it.
type Env []byte

// Get returns the value of a variable and whether it is there.
func (e Env) Get(name string) (value string, ok bool) {
	for rest := []byte(e); len(rest) > 0; {
		var entry []byte
		entry, rest, _ = bytes.Cut(rest, []byte{0})
		if len(entry) > len(name) && entry[len(name)] == '=' && string(entry[:len(name)]) == name {
			return string(entry[len(name)+1:]), true
		}
	}
	return "", false
}

// Has says whether a variable has a value.
func (e Env) Has(name, value string) bool {
	got, ok := e.Get(name)
	return ok && got == value
}

// Each calls visit for every process that runs and whose environment satisfies match,
// as far as this process may read it. The Env is valid during the call only.
func Each(match func(Env) bool, visit func(ID, Env)) error {
	dir, err := os.Open("/proc")
	if err != nil {
		return fmt.Errorf("list processes: %w", err)
	}
	defer dir.Close()
	var buffer []byte
	for {
		names, err := dir.Readdirnames(256)
		for _, name := range names {
			pid, err := strconv.Atoi(name)
			if err != nil {
				continue
			}
			if buffer = environ(buffer, pid); len(buffer) == 0 || !match(buffer) {
				continue
			}
			// The environment once more, after the ID: so that it is not that of another
			// process which had the number before.
			id, err := Identify(pid)
			if err != nil {
				continue
			}
			if buffer = environ(buffer, pid); len(buffer) > 0 && match(buffer) {
				visit(id, buffer)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("list processes: %w", err)
		}
	}
}

// environ reads into the buffer, and returns it empty where there is nothing to read:
// zombies and threads of the kernel have none.
func environ(buffer []byte, pid int) []byte {
	buffer, _ = slurp(buffer[:0], pid, "environ")
	return buffer
}

// slurp reads one of a process's files into the buffer, growing it if need be. With
// plain system calls, as it is done for every process of the machine: a file of
// package os costs as much again.
func slurp(buffer []byte, pid int, name string) ([]byte, error) {
	fd, err := unix.Open("/proc/"+strconv.Itoa(pid)+"/"+name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return buffer, err
	}
	defer unix.Close(fd)
	for len(buffer) < maxEnviron {
		if cap(buffer) == len(buffer) {
			buffer = slices.Grow(buffer, max(4096, cap(buffer)))
		}
		n, err := unix.Read(fd, buffer[len(buffer):cap(buffer)])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if n <= 0 {
			return buffer, err
		}
		buffer = buffer[:len(buffer)+n]
	}
	return buffer, nil
}
