package guard

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"
)

const (
	logName = "guard.log"
	// stands is what a guard writes on its standard output once it guards.
	stands = "stands\n"
	// standPatience is how long a guard may take until then, the end of its
	// predecessor included, before it is killed and another one started.
	standPatience = 30 * time.Second
)

// Post is where a guard stands, seen by the agent. Its methods may be called from
// several goroutines.
type Post struct {
	log     *slog.Logger
	command []string
	dir     string
	done    chan struct{}

	mu      sync.Mutex
	standby chan struct{} // closed while a guard stands
	up      bool
}

// Start starts a guard over the ledger in dir, which must be open, and another one
// whenever it dies, until ctx ends. The guard itself then stays. command is the program
// with its arguments (jetway guard), to which Start adds --dir and the directory.
func Start(ctx context.Context, log *slog.Logger, command []string, dir string) *Post {
	p := &Post{log: log, command: command, dir: dir, done: make(chan struct{}), standby: make(chan struct{})}
	go p.keep(ctx)
	return p
}

// Stands says whether a guard stands now. While none does no backend may be started.
func (p *Post) Stands() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.up
}

// Await returns nil once a guard stands, or the cause of ctx's end.
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
func (p *Post) Wait() { <-p.done }

func (p *Post) set(up bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case up && !p.up:
		close(p.standby)
	case !up && p.up:
		p.standby = make(chan struct{})
	}
	p.up = up
}

func (p *Post) keep(ctx context.Context) {
	defer close(p.done)
	wait := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(50*time.Millisecond),
		backoff.WithMaxInterval(10*time.Second),
		backoff.WithMaxElapsedTime(0))
	for attempt := 1; ctx.Err() == nil; attempt++ {
		stood, err := p.post(ctx)
		p.set(false)
		if ctx.Err() != nil {
			return
		}
		if stood {
			attempt = 1
			wait.Reset()
		}
		again := wait.NextBackOff()
		p.log.ErrorContext(ctx, "no guard stands, starting another: no backends are started meanwhile",
			"attempt", attempt, "again_in", again, "log", filepath.Join(p.dir, logName), "err", err)
		timer := time.NewTimer(again)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}
