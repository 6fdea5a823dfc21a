package guard

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/jetway-project/jetway/internal/boottime"
)

// Run is the guard over the ledger in dir, and all that its process does. It takes the
// place of a guard that stands already, says on standard output, which it closes, that
// it stands, and guards until ctx ends or nobody needs it any more. It returns an error
// when there is no ledger, or when it cannot get the place. log is to write to standard
// error, whose file is kept small.
func Run(ctx context.Context, log *slog.Logger, dir string) error {
	// The kernel's last choice, as far as it is allowed: only root may go below 0.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("-900"), 0)
	g, err := newGuardian(log, boottime.Now, dir)
	if err != nil {
		return err
	}
	defer g.ledger.Close()
	place, err := takePlace(ctx, log, dir)
	if err != nil {
		return err
	}
	defer place.Close()
	log.InfoContext(ctx, "guarding", "pid", os.Getpid(), "dir", dir)
	_, _ = os.Stdout.WriteString(stands) // whoever asked may have gone
	os.Stdout.Close()
	g.guard(ctx, func() { boundLog(dir) })
	return nil
}

func newGuardian(log *slog.Logger, clock boottime.Clock, dir string) (*guardian, error) {
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	// Opened once: should somebody delete the file, it is still what the agent writes.
	ledger, err := os.Open(filepath.Join(dir, ledgerName))
	if err != nil {
		return nil, fmt.Errorf("open the leases: %w", err)
	}
	return &guardian{
		log: log, clock: clock, ledger: ledger, boot: boot, agent: true,
		ended: map[string]ending{}, killing: map[string]killing{},
	}, nil
}

// boundLog starts a new log when the one that standard error goes to is full.
func boundLog(dir string) {
	now, err := os.Stderr.Stat()
	if err != nil || now.Size() < maxLog {
		return
	}
	if at, err := os.Stat(filepath.Join(dir, logName)); err != nil || !os.SameFile(now, at) {
		return
	}
	if fresh, err := openLog(dir); err == nil {
		_ = unix.Dup3(int(fresh.Fd()), int(os.Stderr.Fd()), unix.O_CLOEXEC)
		fresh.Close()
	}
}
