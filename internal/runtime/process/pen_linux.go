package process

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/jetway-project/jetway/internal/procs"
	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/cgroup"
	"github.com/jetway-project/jetway/internal/runtime/executable"
)

// pens make pens.
type pens struct {
	base *cgroup.Base
	// why there are no control groups, if there are none.
	why string
}

// open finds out where control groups can be made. Where the operator has named a place,
// they have to be.
func (p *pens) open(parent, name string) (err error) {
	if parent == NoCgroup {
		p.why = "told to do without (--cgroup none)"
		return nil
	}
	if p.base, err = cgroup.Open(parent, name); err == nil {
		return nil
	}
	if parent != "" {
		return fmt.Errorf("%w: %w", ErrCgroup, err)
	}
	p.why = err.Error()
	return nil
}

func (r *Runtime) closeSystem() {
	if r.pens.base != nil {
		r.pens.base.Close()
	}
}

// lacks says why a controller cannot be used, if it cannot.
func (p *pens) lacks(controller string) (why string, lacks bool) {
	if p.base == nil {
		return p.why, true
	}
	why, lacks = p.base.Lacks()[controller]
	return why, lacks
}

// pen is what holds all processes of a backend: its control group, or where the machine
// has none to give, nil, the labels in their environment.
type pen struct {
	r         *Runtime
	backendID string
	group     *cgroup.Group
}

// makePen makes a pen with limits. How many processes there may be is limited where it can
// be, all else where it is asked for.
func (r *Runtime) makePen(backendID string, l *executable.Limits) (pen, error) {
	p := pen{r: r, backendID: backendID}
	if r.pens.base == nil {
		return p, nil
	}
	limits := cgroup.Limits{MemoryBytes: l.Memory(), Pids: l.Pids()}
	if limits.CPUQuota = l.Quota(); limits.CPUQuota > 0 {
		limits.CPUPeriod = l.Period()
	}
	if _, lacks := r.pens.lacks("pids"); lacks {
		limits.Pids = 0
	}
	var err error
	p.group, err = r.pens.base.Make(backendID, limits)
	return p, err
}

// penOf is the pen of a backend that an earlier run of the agent has started.
func (r *Runtime) penOf(backendID, dir string) pen {
	p := pen{r: r, backendID: backendID, group: r.pens.base.At(dir)}
	if p.group == nil {
		p.group = r.pens.base.At(r.Group(backendID))
	}
	return p
}

// Group is where a backend's control group is, or will be; "" where there are none.
func (r *Runtime) Group(backendID string) string {
	if r.pens.base == nil {
		return ""
	}
	return filepath.Join(r.pens.base.Dir(), backendID)
}

func (p pen) dir() string {
	if p.group == nil {
		return ""
	}
	return p.group.Dir()
}

// kill ends what is in the pen at this moment.
func (p pen) kill() error {
	if p.group != nil {
		return p.group.Kill()
	}
	return nil // empty does
}

// againAfter is how soon it is looked again after what was killed.
const againAfter = 10 * time.Millisecond

// empty waits until nothing of the backend runs any more, which is true; false when the
// Runtime is closed before. What is only known by its labels is killed until none is found.
func (p pen) empty() bool {
	if p.group != nil && p.group.Wait(p.r.closing) != nil {
		return false
	}
	if p.group != nil {
		return true
	}
	for again := againAfter; ; again = min(again*2, time.Second) {
		census, err := p.r.census.take(0)
		left := census[p.backendID]
		if err == nil && len(left) == 0 {
			return true
		}
		for _, process := range left {
			killOne(process)
		}
		timer := time.NewTimer(again)
		select {
		case <-timer.C:
		case <-p.r.closing:
			timer.Stop()
			return false
		}
	}
}

// killOne kills a process, if it is still there. What it says does not matter: whether
// it has ended is seen at the next look.
func killOne(process procs.ID) {
	ref, err := procs.Open(process)
	if err != nil {
		return
	}
	defer ref.Close()
	_ = ref.Signal(9)
}

// remove removes the pen, which is empty.
func (p pen) remove() {
	if p.group != nil {
		_ = p.group.Remove() // what is left is removed when the name is used again
	}
}

// outOfMemory says whether the kernel has killed anything in the pen for its limit.
func (p pen) outOfMemory() bool { return p.group != nil && p.group.OutOfMemory() > 0 }

// usageAge is how old what is known of the labels may be, to say what is used.
const usageAge = time.Second

// usage is what the process and all in its pen use.
func (b body) usage() (usage runtime.Usage, err error) {
	if b.group == nil {
		census, err := b.r.census.take(usageAge)
		add(&usage, b.ref.ID.PID)
		for _, process := range census[b.backendID] {
			if process != b.ref.ID {
				add(&usage, process.PID)
			}
		}
		return usage, err
	}
	usage, counted := b.group.Usage()
	if counted {
		return usage, nil
	}
	pids, err := cgroup.Processes(b.group.Dir())
	cpu := usage.CPU
	for _, pid := range pids {
		add(&usage, pid)
	}
	usage.CPU = cpu
	return usage, err
}

// add adds what a process uses, and for the processor, what children have used that it has
// reaped.
func add(usage *runtime.Usage, pid int) {
	if stat, err := procs.Read(pid); err == nil {
		usage.CPU += time.Duration(stat.CPUTicks) * procs.Tick
		usage.MemUsed += stat.RSSPages * uint64(os.Getpagesize())
	}
}
