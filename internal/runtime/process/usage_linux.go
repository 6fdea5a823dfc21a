package process

import (
	"os"
	"sync"
	"time"

	"github.com/jetway-project/jetway/internal/procs"
	"github.com/jetway-project/jetway/internal/runtime"
)

const (
	// groupsAge is how old what is known of the groups may be. One look at the whole
	// machine, some tens of µs a process, serves all instances that are asked in that time.
	groupsAge = time.Second
	// clockTick is the unit of times in /proc, fixed for programs at 100 a second.
	clockTick = 10 * time.Millisecond
)

// groups knows what the process groups of the machine use.
type groups struct {
	mu    sync.Mutex
	at    time.Time
	table map[int]runtime.Usage
}

func (g *groups) usage(group int) (runtime.Usage, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if time.Since(g.at) > groupsAge {
		table := map[int]runtime.Usage{}
		page := uint64(os.Getpagesize())
		err := procs.EachStat(func(stat procs.Stat) {
			usage := table[stat.Group]
			usage.CPU += time.Duration(stat.CPUTicks) * clockTick
			usage.MemUsed += stat.RSSPages * page
			table[stat.Group] = usage
		})
		if err != nil {
			return runtime.Usage{}, err
		}
		g.table, g.at = table, time.Now()
	}
	return g.table[group], nil
}
