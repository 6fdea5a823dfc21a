package spares

import (
	"cmp"
	"context"
	"crypto/rand"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/messages"
)

const (
	idPrefix = "spare-"
	// EnvSpare says to a program, by "1", that it is started as a spare.
	EnvSpare = "SESSION_BACKEND_SPARE"
	// lookEvery is how soon the pool looks again whether it may start what it could not.
	lookEvery = time.Second
	// slowAfter is how long a spare that loads holds others up.
	slowAfter = 10 * time.Second
	// yieldEvery is how often a spare is started while somebody waits for a start all the time.
	yieldEvery = 2 * time.Second
	// endPatience bounds the ending of all spares with the agent. The next one ends what is left.
	endPatience = 5 * time.Second
)

// Room is what there is for spares.
type Room struct {
	Instances int
	runtime.Demands
}

// Config says what a pool works with. All but Log is needed.
type Config struct {
	Runtime runtime.Runtime
	// Env is what each spare has in its environment, beyond its id.
	Env map[string]string
	// Demands is what an executable demands of the machine, and Room what real backends leave of it now. Room is called under no lock of the pool.
	Demands func(spare *messages.Template) runtime.Demands
	Room    func() Room
	// Await returns true when the instance with that id answers HTTP, false when it ended before, or ctx did. It tells what it meets that is no answer.
	Await func(ctx context.Context, id string, instance runtime.Instance, met func(string)) bool
	// Kill ends an instance and returns when it has ended, or ctx has.
	Kill func(ctx context.Context, id string, instance runtime.Instance)
	// StartupTimeout is how long a spare may take until it answers.
	StartupTimeout time.Duration
	// AtOnce is how many start at a time.
	AtOnce int
	// Changed is called when a template's first spare is ready, or its last is not any more, or what is wrong with them changes. It must not wait.
	Changed func()
	// Log is silent by default.
	Log *slog.Logger
}

// Pool keeps spares. Make it with New. Its methods may be called from several goroutines.
type Pool struct {
	cfg  Config
	wake chan struct{}
	// wg counts what Run started.
	wg sync.WaitGroup

	mu   sync.Mutex
	kept map[string]*kept
	// all are the spares that are not claimed and of which something may run.
	all map[*Spare]struct{}
	// waiting is how many starts somebody waits for, and begunAt when the last spare was begun.
	waiting int
	begunAt time.Time
	// held says that there are to be none for now.
	held bool
	// stopped says that there are to be none any more.
	stopped bool
}

// kept is a template, and what became of its spares.
type kept struct {
	messages.Template
	demands        runtime.Demands
	claims, misses int64
	// err is what was wrong last, and when.
	err   string
	errAt time.Time
	retry retry
}

// New makes a pool that keeps nothing yet.
func New(cfg Config) *Pool {
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	return &Pool{cfg: cfg, wake: make(chan struct{}, 1), kept: map[string]*kept{}, all: map[*Spare]struct{}{}}
}

// Set has the pool keep spares of these templates and of no others. Spares of what has changed are ended; where only their number, or what
// drones do not look at, has changed, they stay.
func (p *Pool) Set(templates []messages.Template) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.kept
	p.kept = make(map[string]*kept, len(templates))
	for _, t := range templates {
		k := before[t.Name]
		if k == nil || string(k.Executable) != string(t.Executable) || k.ClaimPath != t.ClaimPath {
			was := k
			k = &kept{retry: newRetry()}
			if was != nil {
				k.claims, k.misses = was.claims, was.misses
			}
		}
		k.Template, k.demands = t, p.cfg.Demands(&t)
		p.kept[t.Name] = k
	}
	for s := range p.all {
		if p.kept[s.of.Name] != s.of {
			p.endLocked(s)
		}
	}
	for _, k := range p.kept {
		for extra := p.countLocked(k) - k.Spares; extra > 0; extra-- {
			p.endLocked(p.leastLocked(func(s *Spare) bool { return s.of == k }))
		}
	}
	p.changed()
}

// Hold has the pool end all spares and start none, until it is told to go on.
func (p *Pool) Hold(held bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held == held {
		return
	}
	p.held = held
	if held {
		p.endAllLocked()
	}
	p.changed()
}

// Stop has the pool end all spares, and start no more.
func (p *Pool) Stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
	p.endAllLocked()
}

func (p *Pool) endAllLocked() {
	for s := range p.all {
		p.endLocked(s)
	}
}

// Wake has the pool look whether there is room for more.
func (p *Pool) Wake() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Yield says that somebody waits for a start, until the function that it gives is called.
func (p *Pool) Yield() (over func()) {
	p.count(1)
	return func() {
		p.count(-1)
		p.Wake()
	}
}

func (p *Pool) count(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting += n
}

// Run starts and replaces spares until ctx ends, then ends them.
func (p *Pool) Run(ctx context.Context) {
	// What ends them does not end with ctx.
	ending, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-p.wake:
		case <-timer.C:
		case <-ctx.Done():
			p.Stop()
			patience := time.AfterFunc(endPatience, cancel)
			defer patience.Stop()
			p.wg.Wait()
			return
		}
		for p.beginOne(ending) {
		}
		if p.wants() {
			timer.Reset(lookEvery)
		}
	}
}

// wants says whether there are fewer spares than there should be.
func (p *Pool) wants() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, wants := p.nextLocked()
	return wants
}

// beginOne begins with a spare, if one is wanted and may be begun now, and says whether it has looked at one.
func (p *Pool) beginOne(ctx context.Context) bool {
	p.mu.Lock()
	of, _ := p.nextLocked()
	if of == nil {
		p.mu.Unlock()
		return false
	}
	s := p.addLocked(ctx, of)
	p.mu.Unlock()
	// Asked after it was added: a backend that is taken on meanwhile finds it there, and has it give way.
	room := p.cfg.Room()
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.leftLocked(room).enough() || s.state != starting {
		delete(p.all, s)
		s.state = over
		s.abort()
		of.retry.at = time.Now().Add(lookEvery)
		p.sayLocked(of, "the drone has no room for more spares of it: real backends have what is left of its capacity (--max-backends, --max-memory, --max-cpus)")
		return true
	}
	p.begunAt = time.Now()
	p.wg.Go(func() { s.run(ctx) })
	return true
}

// nextLocked gives the template that most wants a spare of those that may begin one now, and says whether any wants one.
func (p *Pool) nextLocked() (next *kept, wants bool) {
	now, loading := time.Now(), 0
	have, starts := map[*kept]int{}, map[*kept]int{}
	for s := range p.all {
		if s.state == over {
			continue // that it ends may take long, and then something is wrong
		}
		have[s.of]++
		if s.state == starting {
			starts[s.of]++
			if now.Sub(s.begunAt) < slowAfter {
				loading++
			}
		}
	}
	full := loading >= p.cfg.AtOnce || p.waiting > 0 && (loading > 0 || now.Sub(p.begunAt) < yieldEvery)
	for _, k := range p.kept {
		if have[k] >= k.Spares || p.held || p.stopped {
			continue
		}
		wants = true
		if full || starts[k] >= p.cfg.AtOnce || now.Before(k.retry.at) {
			continue
		}
		if next == nil || have[k]*next.Spares < have[next]*k.Spares {
			next = k
		}
	}
	return next, wants
}

func (p *Pool) addLocked(ctx context.Context, of *kept) *Spare {
	s := &Spare{
		ID: idPrefix + strings.ToLower(rand.Text())[:14], pool: p, of: of, template: of.Template,
		begunAt: time.Now(), taken: make(chan struct{}),
	}
	s.ending = ctx
	s.starting, s.abort = context.WithTimeout(ctx, p.cfg.StartupTimeout)
	p.all[s] = struct{}{}
	return s
}

// countLocked says how many spares of a template there are that are not to end.
func (p *Pool) countLocked(of *kept) (n int) {
	for s := range p.all {
		if s.of == of && s.state != over {
			n++
		}
	}
	return n
}

// leftLocked says what the spares leave of a room; less than nothing where they do not fit.
func (p *Pool) leftLocked(room Room) Room {
	for s := range p.all {
		if s.state != over {
			room.Instances--
			room.MemoryBytes -= s.of.demands.MemoryBytes
			room.CPUMillis -= s.of.demands.CPUMillis
		}
	}
	return room
}

func (r Room) enough() bool { return r.Instances >= 0 && r.MemoryBytes >= 0 && r.CPUMillis >= 0 }

// GiveWay ends spares until what is left fits beside the real backends, and waits a while until they, and all that were to end before, have ended.
func (p *Pool) GiveWay(ctx context.Context) {
	room := p.cfg.Room()
	p.mu.Lock()
	for {
		left := p.leftLocked(room)
		least := p.leastLocked(func(s *Spare) bool {
			d := s.of.demands
			return left.Instances < 0 || left.MemoryBytes < 0 && d.MemoryBytes > 0 || left.CPUMillis < 0 && d.CPUMillis > 0
		})
		if least == nil {
			break
		}
		p.endLocked(least)
	}
	var ends []<-chan struct{}
	for s := range p.all {
		if s.state == over && s.instance != nil {
			ends = append(ends, s.instance.Done())
		}
	}
	p.mu.Unlock()
	if len(ends) == 0 {
		return
	}
	p.changed()
	patience := time.NewTimer(endPatience)
	defer patience.Stop()
	for _, end := range ends {
		select {
		case <-end:
		case <-patience.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// leastLocked gives the spare of those that match which is missed least, nil if none does: one that is not ready, else the youngest.
func (p *Pool) leastLocked(match func(*Spare) bool) (least *Spare) {
	for s := range p.all {
		if s.state == over || !match(s) {
			continue
		}
		if least == nil || s.state < least.state || s.state == least.state && s.begunAt.After(least.begunAt) {
			least = s
		}
	}
	return least
}

// endLocked has a spare end.
func (p *Pool) endLocked(s *Spare) {
	if s.state == over {
		return
	}
	s.state = over
	s.abort()
	if instance := s.instance; instance != nil {
		p.wg.Go(func() { p.cfg.Kill(s.ending, s.ID, instance) })
	}
}

// sayLocked has the state of a template say what is wrong with its spares, until a claim works, or there have been spares for a while.
func (p *Pool) sayLocked(k *kept, what string) {
	k.errAt = time.Now()
	if k.err != what {
		k.err = what
		p.cfg.Changed()
	}
}

// changed has what there is now looked at.
func (p *Pool) changed() {
	p.Wake()
	p.cfg.Changed()
}

// States says how the templates fare, by name.
func (p *Pool) States() []messages.SpareState {
	p.mu.Lock()
	defer p.mu.Unlock()
	states := make([]messages.SpareState, 0, len(p.kept))
	for _, k := range p.kept {
		state := messages.SpareState{Template: k.Name, Revision: k.Revision, Claims: k.claims, Misses: k.misses, Error: k.err}
		for s := range p.all {
			switch {
			case s.of != k:
			case s.state == ready:
				state.Ready++
			case s.state == starting:
				state.Starting++
			}
		}
		if state.Ready > 0 && time.Since(k.errAt) > livedLong {
			state.Error = ""
		}
		states = append(states, state)
	}
	slices.SortFunc(states, func(a, b messages.SpareState) int { return cmp.Compare(a.Template, b.Template) })
	return states[:min(len(states), messages.MaxTemplates)]
}
