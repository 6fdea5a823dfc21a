package guard

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jetway-project/jetway/internal/boottime"
	"github.com/jetway-project/jetway/internal/drone/journal"
	"github.com/jetway-project/jetway/internal/procs"
)

const (
	// look is how often the journal is read when no deadline is nearer, which is also
	// as often as the clock is looked at: timers stand still in a suspend.
	look = boottime.MaxNap
	// lookAgain is how soon the guard looks after what it has killed.
	lookAgain = 50 * time.Millisecond
	// lookLate is how often it looks whether anything of an ended backend has turned up.
	lookLate = 10 * time.Second
	// complain is how often it says that something cannot be ended.
	complain = 30 * time.Second
	// ableEvery is how often it looks whether it could end what it guards.
	ableEvery = 5 * time.Second
	// engineTimeout bounds what the engine is waited for, so that others are ended in time.
	engineTimeout = 2 * time.Second
)

// Run is the guard over a data directory, and all that its process does. It guards until ctx ends
// or, if an agent has started it, nobody needs it any more.
func Run(ctx context.Context, cfg Config) error {
	// The kernel's last choice, as far as it is allowed: only root may go below 0.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("-900"), 0)
	g, err := newGuardian(cfg)
	if err != nil {
		return fmt.Errorf("guard %s: %w", cfg.Dir, err)
	}
	defer g.reader.Close()
	g.log.InfoContext(ctx, "guarding", "pid", g.self.PID, "dir", cfg.Dir)
	g.guard(ctx)
	return nil
}

// guardian is one run of a guard.
type guardian struct {
	Config
	log    *slog.Logger
	boot   string
	self   procs.ID
	reader *journal.Reader
	// killing are the backends past their deadline of which something was left at the
	// last look; ended those of which nothing was, and when to look again.
	killing map[string]killing
	ended   map[string]time.Duration
	// endable are the processes that it has seen that it may end.
	endable map[procs.ID]struct{}
	// unable is why it could not end what it guards, since the last look at that.
	unable   error
	unableAt time.Duration
	// trouble is what was said last.
	trouble string
}

type killing struct{ since, saidAt time.Duration }

func newGuardian(cfg Config) (*guardian, error) {
	if cfg.Clock == nil {
		cfg.Clock = boottime.Now
	}
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	if _, err := os.Stat(cfg.Dir); err != nil {
		return nil, err
	}
	boot, err := boottime.BootID()
	if err != nil {
		return nil, err
	}
	self, err := procs.Identify(os.Getpid())
	return &guardian{
		Config: cfg, log: cfg.Log, boot: boot, self: self, reader: journal.NewReader(cfg.Dir, boot),
		killing: map[string]killing{}, ended: map[string]time.Duration{}, endable: map[procs.ID]struct{}{},
		unableAt: -ableEvery,
	}, err
}

// guard looks until ctx ends, or nobody needs it any more.
func (g *guardian) guard(ctx context.Context) {
	var gone chan struct{} // stays nil where it guards until it is told to go
	if g.Agent != nil {
		gone = make(chan struct{})
		go func() { // ends with the agent, or with this process
			_, _ = io.Copy(io.Discard, g.Agent)
			close(gone)
		}()
	}
	orphaned := false
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			g.log.InfoContext(ctx, "asked to go")
			return
		case <-gone:
			orphaned, gone = true, nil
			g.log.InfoContext(ctx, "the agent has ended")
		case <-timer.C:
		}
		next, needed := g.round(ctx)
		if orphaned && (!needed || len(g.reader.Left) == 0 && g.relieved()) {
			g.log.InfoContext(ctx, "nothing is left to end, or another guard stands: going")
			return
		}
		g.say(ctx)
		boundLog(g.Dir)
		if g.Looked != nil {
			g.Looked()
		}
		timer.Reset(min(g.Clock.Nap(next), look))
	}
}

// relieved says whether another guard stands.
func (g *guardian) relieved() bool {
	n, err := readNote(g.Dir)
	return err == nil && n.PID != g.self.PID && n.stands(g.boot) == nil
}

// say says that it stands, and what keeps it from ending what it guards.
func (g *guardian) say(ctx context.Context) {
	trouble := ""
	if g.unable != nil {
		trouble = strings.ToValidUTF8(g.unable.Error()[:min(len(g.unable.Error()), maxTrouble)], "")
	}
	err := journal.WriteNote(filepath.Join(g.Dir, noteName),
		note{Boot: g.boot, PID: g.self.PID, Start: g.self.Start, AtMS: boottime.Now().Milliseconds(), Trouble: trouble})
	if err != nil {
		trouble = fmt.Sprintf("cannot say that it stands: %v", err)
	}
	if trouble != g.trouble && trouble != "" {
		g.log.ErrorContext(ctx, "the guard is in trouble", "err", trouble)
	}
	g.trouble = trouble
}

// round looks once and ends what is past its hard deadline. It gives the time when to look next,
// and whether there is anything that it may still have to end.
func (g *guardian) round(ctx context.Context) (next time.Duration, needed bool) {
	readErr := g.reader.Read()
	now := g.Clock()
	next = math.MaxInt64
	past, due := map[string]bool{}, map[string]journal.State{}
	for _, backends := range []map[string]journal.State{g.reader.Backends, g.reader.Left} {
		for id, state := range backends {
			hard := time.Duration(g.reader.Until(state).HardAtMS) * time.Millisecond
			switch again, ended := g.ended[id]; {
			case now < hard:
				next, needed = min(next, hard), true
			case ended && now < again:
				past[id] = true
			default:
				past[id], due[id] = true, state
			}
		}
	}
	g.forget(past)
	if len(due) > 0 {
		left, err := g.kill(ctx, due)
		for id, state := range due {
			if left[id] == 0 && err == nil {
				g.nothingLeft(ctx, id, now)
				continue
			}
			next, needed = min(next, now+lookAgain), true
			g.somethingLeft(ctx, id, state, now, left[id], err)
		}
	}
	if readErr != nil {
		g.unable, g.unableAt = readErr, now-ableEvery
	} else if now-g.unableAt >= ableEvery {
		g.unable, g.unableAt = g.able(ctx), now
	}
	return next, needed || readErr != nil
}

// forget drops what was known of backends that are not past their deadline any more.
func (g *guardian) forget(past map[string]bool) {
	for id := range g.ended {
		if !past[id] {
			delete(g.ended, id)
		}
	}
	for id := range g.killing {
		if !past[id] {
			delete(g.killing, id)
		}
	}
}

func (g *guardian) somethingLeft(ctx context.Context, id string, state journal.State, now time.Duration, processes int, failed error) {
	delete(g.ended, id)
	k, known := g.killing[id]
	if known && now-k.saidAt < complain {
		return
	}
	if !known {
		k.since = now
	}
	k.saidAt = now
	g.killing[id] = k
	late := now - time.Duration(g.reader.Until(state).HardAtMS)*time.Millisecond
	g.log.WarnContext(ctx, "killing a backend past the hard deadline of its lease",
		"backend_id", id, "pid", state.PID, "processes", processes, "late", late, "err", failed)
}

func (g *guardian) nothingLeft(ctx context.Context, id string, now time.Duration) {
	g.ended[id] = now + lookLate
	delete(g.reader.Left, id) // the agent had ended it, or the guard just has
	if k, known := g.killing[id]; known {
		delete(g.killing, id)
		g.log.WarnContext(ctx, "killed a backend past the hard deadline of its lease", "backend_id", id, "took", now-k.since)
	}
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
