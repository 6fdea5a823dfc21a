package guard

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jetway-project/jetway/internal/pause"
)

const (
	logName = "guard.log"
	// maxLog bounds each of the two files of the guard's log, in bytes.
	maxLog = 256 << 10
	// watchEvery is how often the agent looks at a guard that stands, and watchSoon at one that
	// does not stand yet.
	watchEvery = time.Second
	watchSoon  = 25 * time.Millisecond
)

// Post is where a guard stands, seen by the agent. Its methods may be called from
// several goroutines.
type Post struct {
	log     *slog.Logger
	command []string
	dir     string
	changed func()
	wg      sync.WaitGroup
	// child is the guard that was started from here, while it runs.
	child atomic.Pointer[os.Process]

	mu      sync.Mutex
	trouble error
	// standby is closed while a guard stands that can end what it guards.
	standby chan struct{}
}

// Start watches over the guard of a data directory until ctx ends: the guard itself then stays.
// command is the program with its arguments (jetway guard …) which is started, and again whenever
// it ends; without one, somebody else sees to that there is one. changed is called when one
// stands, or does not any more; it must not wait.
func Start(ctx context.Context, log *slog.Logger, command []string, dir string, changed func()) *Post {
	p := &Post{log: log, command: command, dir: dir, changed: changed, standby: make(chan struct{})}
	p.trouble = fmt.Errorf("no guard stands yet over %s", dir)
	p.wg.Go(func() { p.watch(ctx) })
	if len(command) > 0 {
		p.wg.Go(func() { p.keep(ctx) })
	}
	return p
}

// Trouble says why nothing may be started: no guard stands, or it could not end it.
func (p *Post) Trouble() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.trouble
}

// Await returns nil once there is no trouble, or the cause of ctx's end.
func (p *Post) Await(ctx context.Context) error {
	p.mu.Lock()
	standby := p.standby
	p.mu.Unlock()
	select {
	case <-standby:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the guard: %w", context.Cause(ctx))
	}
}

// Wait returns when Start's context has ended and nothing watches the guard any more.
func (p *Post) Wait() { p.wg.Wait() }

func (p *Post) watch(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		err := p.look()
		p.mu.Lock()
		was := p.trouble
		switch p.trouble = err; {
		case err == nil && was != nil:
			close(p.standby)
		case err != nil && was == nil:
			p.standby = make(chan struct{})
		}
		p.mu.Unlock()
		if (err == nil) != (was == nil) {
			p.changed()
		}
		if err == nil {
			timer.Reset(watchEvery)
		} else {
			timer.Reset(watchSoon)
		}
	}
}

func (p *Post) keep(ctx context.Context) {
	wait := pause.Growing(50*time.Millisecond, 10*time.Second)
	for ctx.Err() == nil {
		began := time.Now()
		err := p.post(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > freshFor {
			wait.Reset()
		}
		again := wait.NextBackOff()
		p.log.ErrorContext(ctx, "the guard has ended, starting another: no backends are started meanwhile",
			"again_in", again, "log", filepath.Join(p.dir, logName), "err", err)
		pause.Sleep(ctx, again)
	}
}

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
