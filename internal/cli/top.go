package cli

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/messages"
)

const (
	// topRedraw is how often a terminal shows what is new.
	topRedraw = time.Second
	// topPatience is a little more than the time between two reports of what a backend uses.
	topPatience = messages.StatsEvery + 2*time.Second
	// topBuffer is how many reports may wait. A backend reports again and again, so a dropped report does no harm.
	topBuffer = 8192
)

// topCmd is `jetway top`.
type topCmd struct {
	clientFlags
	Drone string `placeholder:"NAME" predictor:"drone" help:"Show the backends of one drone only."`
	Sort  string `enum:"cpu,memory,name" default:"cpu" help:"Order: ${enum}."`
	Once  bool   `help:"Show it once and end, when all backends have said what they use, after ${top_patience} at most."`
}

// Run shows a table until the user has seen enough. On a terminal it is redrawn;
// elsewhere there is a new one whenever backends say what they use.
func (c *topCmd) Run(r *run) error {
	if c.Drone != "" {
		if err := messages.CheckDroneName(c.Drone); err != nil {
			return invalid(err)
		}
	}
	nc, err := c.open(r)
	if err != nil {
		return err
	}
	defer nc.Close()
	said := make(chan *nats.Msg, topBuffer)
	sub, err := nc.ChanSubscribe(messages.SubjectAllStats, said)
	if err != nil {
		return fmt.Errorf("listen to statistics: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	t := &top{uses: make(map[string]*use)}
	if err := c.list(r, nc, t); err != nil {
		return err
	}
	if c.Once {
		c.await(r, said, t)
		if err := r.ctx.Err(); err != nil {
			return err
		}
		return c.print(r, t)
	}
	return c.follow(r, nc, said, t)
}

// await notes reports until all backends have sent one.
func (c *topCmd) await(r *run, said <-chan *nats.Msg, t *top) {
	limit := time.NewTimer(r.bound(topPatience))
	defer limit.Stop()
	for !t.complete() {
		select {
		case msg := <-said:
			t.take(msg.Data, r.now())
		case <-limit.C:
			return
		case <-r.ctx.Done():
			return
		}
	}
}

func (c *topCmd) follow(r *run, nc *nats.Conn, said <-chan *nats.Msg, t *top) error {
	every, screen := messages.StatsEvery, isTerminal(r.stdout) && !c.JSON
	if screen {
		every = topRedraw
		r.printf("\x1b[2J")
	}
	relist, redraw := r.ticker(messages.StatsEvery), r.ticker(every)
	defer relist.Stop()
	defer redraw.Stop()
	show := func() error {
		if screen {
			width, height := screenSize(r.stdout)
			r.printf("%s", frame(t.lines(c.Sort, r.now()), width, height))
			return nil
		}
		return c.print(r, t)
	}
	if screen {
		_ = show()
	}
	for {
		var err error
		select {
		case <-r.ctx.Done():
			return seenEnough(r, r.ctx.Err())
		case msg := <-said:
			t.take(msg.Data, r.now())
		case <-relist.C:
			if err := c.list(r, nc, t); err != nil {
				r.log.Warn("cannot list the backends, showing those known", "err", err)
			}
		case <-redraw.C:
			err = show()
		}
		if err != nil {
			return err
		}
	}
}

// list asks for the backends that there are.
func (c *topCmd) list(r *run, nc *nats.Conn, t *top) error {
	list, err := listBackends(r, &c.clientFlags, nc, messages.BackendsRequest{Drone: c.Drone}, 0)
	if err != nil {
		return err
	}
	t.list(list, r.now())
	t.spares = 0
	drones, err := listDrones(r, &c.clientFlags, nc)
	if err != nil {
		r.log.Debug("cannot list the drones, and so not count their spares", "err", err)
	}
	for i := range drones {
		for _, s := range drones[i].Spares {
			if c.Drone == "" || c.Drone == drones[i].Drone {
				t.spares += s.Ready
			}
		}
	}
	return nil
}

// print shows the table once, for reading or for programs.
func (c *topCmd) print(r *run, t *top) error {
	switch {
	case c.JSON && c.Once:
		return r.printIndented(t.rows(c.Sort))
	case c.JSON:
		r.printJSON(t.rows(c.Sort))
	default:
		r.printf("%s\n", strings.Join(t.lines(c.Sort, r.now()), "\n"))
	}
	return nil
}

// top is what is known of the backends' use.
type top struct {
	backends []messages.BackendInfo
	uses     map[string]*use
	spares   int // that are ready
}

// use is what one backend said last.
type use struct {
	stats   messages.Stats
	percent float64 // of one processor
	heard   time.Time
}

// take notes what a backend said. It ignores what it cannot read: a newer version has sent it.
func (t *top) take(data []byte, now time.Time) {
	stats, err := messages.Decode[messages.Stats](data)
	if err != nil {
		return
	}
	// Both times are the same machine's. At first it is not known since when.
	since := messages.StatsEvery
	u := t.uses[stats.BackendID]
	if u == nil {
		u = new(use)
		t.uses[stats.BackendID] = u
	} else if d := stats.Time.Sub(u.stats.Time); d > 0 && d < topPatience {
		since = d
	}
	u.stats, u.percent, u.heard = stats, 100*float64(stats.CPUUsed)/float64(since), now
}

// list replaces the backends, and forgets what those use that have gone or fallen silent.
func (t *top) list(backends []messages.BackendInfo, now time.Time) {
	t.backends = backends
	for id, u := range t.uses {
		if now.Sub(u.heard) > 3*messages.StatsEvery {
			delete(t.uses, id)
		}
	}
}

// complete says whether all that run, and do not sleep, have said what they use.
func (t *top) complete() bool {
	for i := range t.backends {
		if b := &t.backends[i]; t.uses[b.BackendID] == nil && b.Status >= messages.Waiting && !b.Asleep {
			return false
		}
	}
	return true
}

// topRow is one backend; without Time it has not said what it uses.
type topRow struct {
	BackendID string          `json:"backend_id"`
	Key       messages.Key    `json:"key"`
	Drone     string          `json:"drone"`
	Status    messages.Status `json:"status"`
	Asleep    bool            `json:"asleep,omitempty"`
	Time      time.Time       `json:"time,omitzero"`
	// CPUPercent is of one processor.
	CPUPercent float64 `json:"cpu_percent"`
	MemUsed    uint64  `json:"mem_used"`
	MemLimit   uint64  `json:"mem_limit,omitempty"`
}

func (t *top) rows(by string) []topRow {
	rows := make([]topRow, len(t.backends))
	for i := range t.backends {
		b := &t.backends[i]
		rows[i] = topRow{BackendID: b.BackendID, Key: b.Key, Drone: b.Drone, Status: b.Status, Asleep: b.Asleep}
		if u := t.uses[b.BackendID]; u != nil {
			rows[i].Time, rows[i].CPUPercent = u.stats.Time, math.Round(10*u.percent)/10
			rows[i].MemUsed, rows[i].MemLimit = u.stats.MemUsed, u.stats.MemLimit
		}
	}
	slices.SortStableFunc(rows, func(a, b topRow) int {
		cpu, memory := cmp.Compare(b.CPUPercent, a.CPUPercent), cmp.Compare(b.MemUsed, a.MemUsed)
		switch by {
		case "cpu":
			return cmp.Or(cpu, memory)
		case "memory":
			return cmp.Or(memory, cpu)
		}
		return 0 // they are listed by name
	})
	return rows
}

// lines is the table under a line that sums it up.
func (t *top) lines(by string, now time.Time) []string {
	rows := t.rows(by)
	cells, cpu, memory := make([][]string, len(rows)), 0.0, uint64(0)
	for i := range rows {
		b := &rows[i]
		percent, used := "-", "-"
		if !b.Time.IsZero() {
			percent, used = strconv.FormatFloat(b.CPUPercent, 'f', 1, 64)+"%", sizeText(b.MemUsed)
			if b.MemLimit > 0 {
				used += "/" + sizeText(b.MemLimit)
			}
		}
		cpu, memory = cpu+b.CPUPercent, memory+b.MemUsed
		cells[i] = []string{b.BackendID, percent, used, statusText(&messages.BackendInfo{State: messages.State{Status: b.Status}, Nap: messages.Nap{Asleep: b.Asleep}}), b.Drone, keyText(b.Key)}
	}
	cells = slices.Insert(cells, 0, []string{"BACKEND", "CPU", "MEMORY", "STATUS", "DRONE", "KEY"})
	var columns columns
	columns.fit(cells)
	head := fmt.Sprintf("%s  %d backends, CPU %.1f%% of one processor, memory %s", now.Local().Format(time.TimeOnly), len(rows), cpu, sizeText(memory))
	if t.spares > 0 {
		head += fmt.Sprintf(", %d spares ready", t.spares)
	}
	lines := []string{head}
	for _, row := range cells {
		lines = append(lines, columns.line(row))
	}
	return lines
}

func sizeText(n uint64) string { return bytesText(int64(min(n, 1<<62))) }

// frame draws lines over those of the last frame, as far as the screen holds them.
func frame(lines []string, width, height int) string {
	var s strings.Builder
	s.WriteString("\x1b[H")
	for i, line := range lines[:min(len(lines), height)] {
		if i > 0 {
			s.WriteString("\r\n")
		}
		s.WriteString(cut(line, width) + "\x1b[K")
	}
	s.WriteString("\x1b[J")
	return s.String()
}
