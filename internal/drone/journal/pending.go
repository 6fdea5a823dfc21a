package journal

import (
	"maps"

	"github.com/jetway-project/jetway/messages"
)

// pending is what was noted and is not committed: of each backend what holds at the
// end, and reports in order.
type pending struct {
	backends map[string]*change
	reports  []Unreported
	answered []Mark
	// mark is of the latest change; 0 where there is none.
	mark Mark
}

// change is what becomes of one backend's records.
type change struct {
	// fresh says that it was taken on in this: before, there is nothing of it.
	fresh bool
	spawn *messages.Spawn
	// secret is the spawn's executable with what must not stay on a disk.
	secret []byte
	state  *State
	over   bool
}

// begun says that after this it has begun, or ended: it is not started any more.
func (c *change) begun() bool { return c.over || c.state != nil && c.state.Begun }

func newPending() *pending { return &pending{backends: map[string]*change{}} }

func (p *pending) add(mark Mark, c Change) {
	p.mark = mark
	if c.Report != nil {
		p.reports = append(p.reports, Unreported{Mark: mark, Report: *c.Report})
	}
	if c.Spawn == nil && c.State == nil && !c.Over {
		return
	}
	p.merge(c.BackendID, &change{fresh: c.Spawn != nil, spawn: c.Spawn, secret: c.Secret, state: c.State, over: c.Over})
}

func (p *pending) merge(id string, c *change) {
	known := p.backends[id]
	switch {
	case known == nil:
		p.backends[id] = c
	case c.over && known.fresh:
		delete(p.backends, id) // it came and went
	case c.over:
		p.backends[id] = c
	case known.over: // there is something of it to be replaced
		c.fresh = false
		p.backends[id] = c
	default:
		if c.spawn != nil {
			known.spawn, known.secret = c.spawn, c.secret
		}
		if c.state != nil {
			known.state = c.state
		}
	}
}

// follow adds what was noted after p.
func (p *pending) follow(later *pending) {
	for id, c := range maps.All(later.backends) {
		p.merge(id, c)
	}
	p.reports = append(p.reports, later.reports...)
	p.answered = append(p.answered, later.answered...)
	p.mark = max(p.mark, later.mark)
}
