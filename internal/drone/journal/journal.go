package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"
	"go.etcd.io/bbolt"

	"github.com/jetway-project/jetway/internal/mutant"
	"github.com/jetway-project/jetway/messages"
)

const (
	// linger is how long what nobody waits for may be held back for company.
	linger = time.Second
	// slow is how long one commit may take before the disk counts as failing.
	slow = 5 * time.Second
)

// Backend is what an agent has to know of a backend to look after it again.
type Backend struct {
	// Spawn is as the drone took it, once it has begun without what must not stay on a disk.
	Spawn messages.Spawn
	State
}

// State is what changes of a backend.
type State struct {
	Status messages.Status `json:"status"`
	// Reason and Message say why it is to end, once it is.
	Reason  messages.TerminationReason `json:"reason,omitempty"`
	Message string                     `json:"message,omitempty"`
	// Begun says that the runtime may have started it.
	Begun bool `json:"begun,omitempty"`
	// Handle and Address are the instance's, once there is one.
	Handle  string `json:"handle,omitempty"`
	Address string `json:"address,omitempty"`
}

// Mark is a place in the order of what was noted. The zero Mark is before all of it.
type Mark uint64

// Change is what is noted at once, of one backend.
type Change struct {
	BackendID string
	// Spawn is set when the backend is taken on. It must not be changed any more.
	Spawn *messages.Spawn
	// Secret is the spawn's executable, if the one in Spawn lacks something that must not
	// stay on a disk. It is kept until the backend has begun.
	Secret json.RawMessage
	// State is its new state, if it is not nil.
	State *State
	// Over says that it has ended: it is forgotten.
	Over bool
	// Report is a state to tell the workers, until that is Answered.
	Report *messages.Report
}

// Unreported is a state that no worker has answered for.
type Unreported struct {
	Mark Mark
	messages.Report
}

// Contents are what a journal had when it was opened.
type Contents struct {
	Backends map[string]Backend
	// Reports are in the order in which they were noted.
	Reports []Unreported
	// SetAside is where the file was moved that could not be used; "" if it could.
	SetAside string
}

// Config says where a journal is. Dir and Drone have no default.
type Config struct {
	// Dir is the drone's data directory; made if it is not there.
	Dir string
	// Drone is the name of the drone that it belongs to.
	Drone string
	// OnChange is called, if set, after a commit, and when the journal begins to
	// fail; it must not wait.
	OnChange func()
	// Log is silent by default.
	Log *slog.Logger
}

// Journal is an open journal. Make one with [Open].
type Journal struct {
	cfg  Config
	path string
	lock *os.File
	wake chan struct{}
	stop context.CancelFunc
	done chan struct{}

	// db is the committer's; nil while the file cannot be opened.
	db *bbolt.DB
	// secrets are those that are on the disk; the committer's, too.
	secrets map[string][]byte

	mu        sync.Mutex
	pending   *pending
	last      Mark // noted
	committed Mark
	// changed is closed and replaced when committed grows, and closed at the end.
	changed chan struct{}
	err     error     // why the last commit failed; nil if it did not
	began   time.Time // of the commit that is under way; zero if none is
	closed  bool
}

// Open opens the journal of a data directory, and makes it if there is none. It
// fails at once when another agent uses the directory.
func Open(cfg Config) (*Journal, Contents, error) {
	if cfg.OnChange == nil {
		cfg.OnChange = func() {}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, Contents{}, fmt.Errorf("data directory: %w", err)
	}
	lock, err := lockDir(cfg.Dir)
	if err != nil {
		return nil, Contents{}, err
	}
	j := &Journal{
		cfg: cfg, path: pathIn(cfg.Dir), lock: lock,
		wake: make(chan struct{}, 1), done: make(chan struct{}),
		pending: newPending(), changed: make(chan struct{}), secrets: map[string][]byte{},
	}
	contents, err := j.open()
	if err == nil {
		err = j.loadSecrets(contents.Backends)
	}
	if err != nil {
		shut(j.db)
		_ = lock.Close()
		return nil, Contents{}, fmt.Errorf("journal %s: %w", j.path, err)
	}
	for _, report := range contents.Reports {
		j.last = max(j.last, report.Mark)
	}
	j.committed = j.last
	ctx, stop := context.WithCancel(context.Background())
	j.stop = stop
	go j.run(ctx)
	return j, contents, nil
}

// Note notes a change. It takes effect at once for whoever asks this journal, and
// for a later run once it is committed.
func (j *Journal) Note(c Change) Mark {
	if j == nil {
		return 0
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.last++
	j.pending.add(j.last, c)
	nudge(j.wake)
	return j.last
}

// Answered says that workers have answered for reports: they are forgotten, not
// at once, for to report one again does no harm.
func (j *Journal) Answered(reports []Mark) {
	if j == nil || len(reports) == 0 {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.pending.answered = append(j.pending.answered, reports...)
	nudge(j.wake)
}

// Committed is the mark up to which all is committed.
func (j *Journal) Committed() Mark {
	if j == nil {
		return 0
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.committedLocked()
}

func (j *Journal) committedLocked() Mark {
	if mutant.On(mutant.AckUnjournalled) {
		return j.last
	}
	return j.committed
}

// Last is the mark of the latest that was noted.
func (j *Journal) Last() Mark {
	if j == nil {
		return 0
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.last
}

// ErrClosed says that the journal was closed before all was committed.
var ErrClosed = errors.New("the journal is closed")

// Wait waits until all up to mark is committed.
func (j *Journal) Wait(ctx context.Context, mark Mark) error {
	if j == nil {
		return nil
	}
	for {
		j.mu.Lock()
		committed, closed, changed := j.committedLocked() >= mark, j.closed, j.changed
		j.mu.Unlock()
		switch {
		case committed:
			return nil
		case closed:
			return ErrClosed
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Failing says why nothing can be committed now, or nil when it can.
func (j *Journal) Failing() error {
	if j == nil {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err == nil && !j.began.IsZero() && time.Since(j.began) > slow {
		return fmt.Errorf("the disk has not answered for %s", time.Since(j.began).Round(time.Second))
	}
	return j.err
}

// Close commits what is noted, within ctx, and closes the file. It may be called twice.
func (j *Journal) Close(ctx context.Context) error {
	if j == nil {
		return nil
	}
	j.mu.Lock()
	last, closed := j.last, j.closed
	j.mu.Unlock()
	if closed {
		return nil
	}
	err := j.Wait(ctx, last)
	if err != nil {
		err = fmt.Errorf("journal %s: not all could be written: %w", j.path, errors.Join(err, j.Failing()))
	}
	j.stop()
	select {
	case <-j.done:
	case <-time.After(slow): // the disk does not answer; the end of the process frees it
		return errors.Join(err, fmt.Errorf("journal %s: the disk does not answer", j.path))
	}
	return errors.Join(err, j.lock.Close())
}

// run commits until ctx ends.
func (j *Journal) run(ctx context.Context) {
	defer close(j.done)
	defer j.finish()
	pause := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(250*time.Millisecond),
		backoff.WithMaxInterval(2*time.Second), backoff.WithMaxElapsedTime(0))
	for j.await(ctx) {
		batch := j.take()
		err := j.commit(batch)
		j.settle(batch, err)
		if err == nil {
			pause.Reset()
			continue
		}
		again := time.NewTimer(pause.NextBackOff())
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return
		}
	}
}

// await returns true when there is something to commit, false when ctx ended.
func (j *Journal) await(ctx context.Context) bool {
	var up <-chan time.Time
	for {
		j.mu.Lock()
		urgent, some := j.pending.mark != 0, len(j.pending.answered) > 0
		if mutant.On(mutant.AckUnjournalled) {
			urgent, some = false, urgent || some
		}
		j.mu.Unlock()
		if urgent {
			return ctx.Err() == nil
		}
		if some && up == nil {
			timer := time.NewTimer(linger)
			defer timer.Stop()
			up = timer.C
		}
		select {
		case <-ctx.Done():
			return false
		case <-j.wake:
		case <-up:
			return true
		}
	}
}

// take takes all that is noted.
func (j *Journal) take() *pending {
	j.mu.Lock()
	defer j.mu.Unlock()
	batch := j.pending
	j.pending = newPending()
	j.began = time.Now()
	return batch
}

// settle says what became of a batch.
func (j *Journal) settle(batch *pending, err error) {
	j.mu.Lock()
	before := j.err
	j.err, j.began = err, time.Time{}
	if err == nil {
		j.committed = max(j.committed, batch.mark)
		close(j.changed)
		j.changed = make(chan struct{})
	} else {
		for _, c := range batch.backends {
			c.fresh = false // it may be on the disk all the same
		}
		batch.follow(j.pending)
		j.pending = batch
	}
	j.mu.Unlock()
	switch {
	case err != nil && (before == nil || before.Error() != err.Error()):
		j.cfg.Log.Error("the journal cannot be written: what runs goes on, nothing new is taken and no state is reported until it can",
			"file", j.path, "err", err)
	case err == nil && before != nil:
		j.cfg.Log.Info("the journal can be written again", "file", j.path)
	}
	j.cfg.OnChange()
}

// finish lets go of all who wait, and closes the file. What was only answered for
// goes along if it can.
func (j *Journal) finish() {
	if batch := j.take(); batch.mark == 0 && len(batch.answered) > 0 && j.db != nil {
		_ = j.commit(batch)
	}
	j.mu.Lock()
	j.closed = true
	close(j.changed)
	j.mu.Unlock()
	shut(j.db)
	j.db = nil
}

func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
