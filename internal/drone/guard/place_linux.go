package guard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jetway-project/jetway/internal/procs"
)

const (
	placeName = "guard.lock"
	// goPatience is how long the guard before may take to go before it is killed: it
	// may be stopped, or hang.
	goPatience = 2 * time.Second
	// placeAgain is how often the place is tried while nobody is known to hold it.
	placeAgain = 50 * time.Millisecond
)

// takePlace gets the guard's lock, which asks a guard that has it to go. The lock lasts
// until the file is closed, or the process ends.
func takePlace(ctx context.Context, log *slog.Logger, dir string) (place *os.File, err error) {
	file, err := os.OpenFile(filepath.Join(dir, placeName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("take the guard's place: %w", err)
	}
	defer func() {
		if err != nil {
			file.Close()
		}
	}()
	self, err := procs.Identify(os.Getpid())
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(placeAgain)
	defer tick.Stop()
	for {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			_, err := file.WriteAt(fmt.Appendf(nil, "%-10d %-20d\n", self.PID, self.Start), 0)
			if err != nil {
				return nil, fmt.Errorf("take the guard's place: %w", err)
			}
			return file, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("take the guard's place: %w", err)
		}
		if err := relieve(ctx, log, file); err != nil {
			return nil, fmt.Errorf("take the guard's place: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("take the guard's place: %w", context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// relieve asks the guard that has the place to go, waits for its end, and does not wait
// long. A place whose holder has not written yet who it is, or is gone, is nobody's.
func relieve(ctx context.Context, log *slog.Logger, place *os.File) error {
	var holder procs.ID
	if n, _ := fmt.Fscan(io.NewSectionReader(place, 0, slotSize), &holder.PID, &holder.Start); n < 2 {
		return nil
	}
	guard, err := procs.Open(holder)
	if errors.Is(err, procs.ErrGone) {
		return nil
	}
	if err != nil {
		return err
	}
	defer guard.Close()
	log.InfoContext(ctx, "asking the guard before to go", "pid", holder.PID)
	if err := guard.Signal(unix.SIGTERM); err != nil {
		return err
	}
	impatient := time.AfterFunc(goPatience, func() { _ = guard.Signal(unix.SIGKILL) })
	defer impatient.Stop()
	enough := context.AfterFunc(ctx, guard.Close)
	defer enough()
	_ = guard.Wait() // ended, or ctx has
	return nil
}
