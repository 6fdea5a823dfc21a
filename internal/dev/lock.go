package dev

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// lock makes the data directory and takes it for this process, until the file is
// closed or the process ends, however it ends.
func lock(data string) (*os.File, error) {
	// Others than the owner may pass through: when root starts it, Postgres runs
	// as another user below.
	if err := os.MkdirAll(data, 0o755); err != nil {
		return nil, fmt.Errorf("--data: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(data, "lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("--data: %w", err)
	}
	err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		// Only for the message below: that it cannot be written is no harm.
		_ = file.Truncate(0)
		_, _ = file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
		return file, nil
	}
	defer func() { _ = file.Close() }()
	if !errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("--data: lock %s: %w", file.Name(), err)
	}
	by := "another jetway dev"
	if pid, err := io.ReadAll(io.LimitReader(file, 20)); err == nil && len(pid) > 0 {
		by += " (process " + strings.TrimSpace(string(pid)) + ")"
	}
	return nil, fmt.Errorf("--data %s is in use by %s: stop it, or choose another directory with --data", data, by)
}
