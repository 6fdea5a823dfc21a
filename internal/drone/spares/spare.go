package spares

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/jetway-project/jetway/internal/mutant"
	"github.com/jetway-project/jetway/internal/pause"
	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/messages"
)

// state of a spare that is not claimed: they only go up.
type state int

const (
	starting state = iota
	ready
	// over: it is to end, or has ended, or is claimed.
	over
)

// Spare is an instance that is not a backend yet. Who has it from [Pool.Take] has it alone.
type Spare struct {
	// ID is what the runtime knows it by.
	ID      string
	pool    *Pool
	of      *kept
	begunAt time.Time
	// template is what it was started for.
	template messages.Template
	// starting ends when its start is given up, by abort. ending is what its end is awaited for.
	starting, ending context.Context
	abort            context.CancelFunc
	taken            chan struct{} // closed when it is taken
	lines            lines

	// Guarded by the pool's lock until it is taken.
	state    state
	instance runtime.Instance
}

// run starts a spare.
func (s *Spare) run(ctx context.Context) {
	p := s.pool
	defer p.Wake()
	defer s.abort()
	env := maps.Clone(p.cfg.Env)
	env[runtime.EnvBackendID], env[EnvSpare] = s.ID, "1"
	spec := runtime.Spec{BackendID: s.ID, Executable: s.template.Executable, Env: env, Log: s.lines.add}
	err := p.cfg.Runtime.Prepare(s.starting, spec)
	var instance runtime.Instance
	if err == nil {
		instance, err = p.cfg.Runtime.Start(s.starting, spec)
	}
	if err != nil {
		s.fail(err.Error())
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.all, s)
		return
	}
	p.mu.Lock()
	s.instance = instance
	unwanted := s.state == over
	p.mu.Unlock()
	s.onEnd()
	if unwanted {
		p.cfg.Kill(ctx, s.ID, instance)
		return
	}
	address, met := instance.Address(), ""
	if address != "" && p.cfg.Await(s.starting, s.ID, instance, func(text string) { met = ": " + text }) {
		s.becomeReady()
		return
	}
	if runtime.Over(instance.Done()) {
		return // which is seen elsewhere
	}
	text := "it has no address where it could be claimed"
	if address != "" {
		text = fmt.Sprintf("it did not answer HTTP at %s within %s of its start%s", address, p.cfg.StartupTimeout, met)
	}
	if s.fail(text) {
		p.cfg.Kill(ctx, s.ID, instance)
	}
}

func (s *Spare) becomeReady() {
	p := s.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.state != starting {
		return
	}
	s.state = ready
	p.cfg.Changed()
}

// onEnd has its end seen, unless it is taken before.
func (s *Spare) onEnd() {
	if teller, ok := s.instance.(runtime.Teller); ok {
		teller.OnDone(s.ended)
		return
	}
	s.pool.wg.Go(func() {
		select {
		case <-s.instance.Done():
			s.ended()
		case <-s.taken:
		case <-s.ending.Done():
		}
	})
}

func (s *Spare) ended() {
	p := s.pool
	s.fail(fmt.Sprintf("it ended by itself: %s", s.instance.Exit()))
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, mine := p.all[s]; mine {
		delete(p.all, s)
		s.abort()
		p.changed()
	}
}

// fail says that a spare was of no use, and why, unless nobody wanted it any more; the next one of its template has to wait.
func (s *Spare) fail(why string) bool {
	if words := s.lines.lastWords(); words != "" {
		why += "; its last output: " + words
	}
	p := s.pool
	p.mu.Lock()
	wanted := s.state != over
	if wanted {
		s.state = over
		s.abort()
		s.of.retry.later(s.begunAt)
		p.sayLocked(s.of, why)
	}
	p.mu.Unlock() // a log may be a pipe that nobody reads
	if wanted {
		p.cfg.Log.Warn("a spare is of no use", "template", s.template.Name, "spare", s.ID, "err", why)
	}
	return wanted
}

// Take gives a spare of a template as it is in that revision, to be claimed; nil if none is ready, which is a miss.
func (p *Pool) Take(name string, revision int64) *Spare {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := p.kept[name]
	if k == nil || k.Spares == 0 {
		return nil
	}
	var oldest *Spare
	for s := range p.all {
		if s.of == k && s.state == ready && k.Revision == revision && !runtime.Over(s.instance.Done()) && (oldest == nil || s.begunAt.Before(oldest.begunAt)) {
			oldest = s
		}
	}
	if oldest == nil {
		k.misses++
		return nil
	}
	if mutant.On(mutant.SpareTwice) {
		return oldest
	}
	oldest.state = over
	delete(p.all, oldest)
	close(oldest.taken)
	p.Wake()
	return oldest
}

// Instance is what runs. It is set once it is ready.
func (s *Spare) Instance() runtime.Instance { return s.instance }

// retry says when the next spare of a template may be begun after one that failed.
type retry struct {
	pauses *backoff.ExponentialBackOff
	at     time.Time
}

const (
	retryFirst, retryMost = time.Second, time.Minute
	// livedLong is how long a spare lives whose end is not held against its template.
	livedLong = time.Minute
)

func newRetry() retry { return retry{pauses: pause.Growing(retryFirst, retryMost)} }

// later puts it off, for the failure of a spare that was begun then.
func (r *retry) later(begunAt time.Time) {
	if time.Since(begunAt) >= livedLong {
		r.pauses.Reset()
	}
	r.at = time.Now().Add(r.pauses.NextBackOff())
}

// reset forgives all.
func (r *retry) reset() {
	r.pauses.Reset()
	r.at = time.Time{}
}

// lines keeps the last lines of a spare for who claims it, and passes on what comes after.
type lines struct {
	mu    sync.Mutex
	to    func(runtime.Line)
	kept  []runtime.Line
	bytes int
}

// maxKept and maxKeptBytes bound what is kept of the output of an idle spare (I8).
const (
	maxKept      = 20
	maxKeptBytes = 4 << 10
	maxLastWords = 120
)

func (l *lines) add(line runtime.Line) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.to != nil {
		l.to(line)
		return
	}
	line.Text = line.Text[:min(len(line.Text), maxKeptBytes)]
	l.kept = append(l.kept, line)
	l.bytes += len(line.Text)
	for len(l.kept) > maxKept || l.bytes > maxKeptBytes {
		l.bytes -= len(l.kept[0].Text)
		l.kept = append(l.kept[:0], l.kept[1:]...)
	}
}

// pass passes what was kept, and from now on all, to somebody.
func (l *lines) pass(to func(runtime.Line)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.kept {
		to(line)
	}
	l.to, l.kept, l.bytes = to, nil, 0
}

// lastWords is the last line that was kept.
func (l *lines) lastWords() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.kept) == 0 {
		return ""
	}
	last := l.kept[len(l.kept)-1].Text
	return last[max(len(last)-maxLastWords, 0):]
}
