package cgroup

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Limits are what a group may use; 0: as much as there is.
type Limits struct {
	// MemoryBytes is for memory and page cache; there is no swap on top.
	MemoryBytes int64
	// CPUQuota of every CPUPeriod, both in µs, may be used of one processor; a greater
	// quota is more than one processor.
	CPUQuota, CPUPeriod int64
	// Pids is for processes and threads.
	Pids int64
}

// setting is one file of a group. Where optional, the kernel need not have it.
type setting struct {
	file, text string
	optional   bool
}

// settings are the files to write for a controller of the unified hierarchy, or of v1;
// nothing where it is not limited.
func (l Limits) settings(controller string, v1 bool) []setting {
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	switch {
	case controller == memory && l.MemoryBytes > 0 && v1:
		return []setting{
			{file: "memory.limit_in_bytes", text: number(l.MemoryBytes)},
			{file: "memory.memsw.limit_in_bytes", text: number(l.MemoryBytes), optional: true},
		}
	case controller == memory && l.MemoryBytes > 0:
		return []setting{{file: "memory.max", text: number(l.MemoryBytes)}, {file: "memory.swap.max", text: "0", optional: true}}
	case controller == cpu && l.CPUQuota > 0 && v1:
		return []setting{{file: "cpu.cfs_period_us", text: number(l.CPUPeriod)}, {file: "cpu.cfs_quota_us", text: number(l.CPUQuota)}}
	case controller == cpu && l.CPUQuota > 0:
		return []setting{{file: "cpu.max", text: number(l.CPUQuota) + " " + number(l.CPUPeriod)}}
	case controller == pids && l.Pids > 0:
		return []setting{{file: "pids.max", text: number(l.Pids)}}
	}
	return nil
}

// limit makes limits hold for a group in which nothing runs yet.
func (g *Group) limit(l Limits) error {
	for _, controller := range []string{memory, cpu, pids} {
		dir, v1 := g.v1(controller)
		settings := l.settings(controller, v1)
		if len(settings) == 0 {
			continue
		}
		if why, lacks := g.base.lacks[controller]; lacks {
			return fmt.Errorf("this drone cannot limit %s: %s", controller, why)
		}
		if v1 {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return fmt.Errorf("limit %s: %w", controller, err)
			}
		}
		for _, s := range settings {
			if err := write(dir, s.file, s.text); err != nil && !(s.optional && os.IsNotExist(err)) {
				return fmt.Errorf("limit %s: %w", controller, err)
			}
		}
	}
	return nil
}

// v1 is where a controller's files of the group are, and whether that is a hierarchy of v1.
func (g *Group) v1(controller string) (dir string, v1 bool) {
	if dir, v1 = g.base.v1[controller]; v1 {
		return filepath.Join(dir, filepath.Base(g.dir)), true
	}
	return g.dir, false
}

// Enter has what the calling thread forks from here on be born in the groups of v1 that
// limit it, until leave is called, by the same thread, which must stay its own meanwhile. On
// the unified hierarchy the clone itself does it, and this does nothing.
func (g *Group) Enter() (leave func(), err error) {
	var homes []*os.File // opened before: the thread may be denied it after
	leave = func() {
		for _, home := range homes {
			_, _ = home.WriteString("0")
			_ = home.Close()
		}
	}
	for _, controller := range []string{memory, cpu, pids} {
		dir, v1 := g.v1(controller)
		if !v1 || !exists(dir) {
			continue
		}
		home, err := os.OpenFile(filepath.Join(g.base.home[controller], "tasks"), os.O_WRONLY, 0)
		if err == nil {
			homes = append(homes, home)
			err = write(dir, "tasks", "0")
		}
		if err != nil {
			leave()
			return nil, fmt.Errorf("enter a control group: %w", err)
		}
	}
	return leave, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// OutOfMemory counts the processes of the group that the kernel has killed because its
// memory was full.
func (g *Group) OutOfMemory() uint64 {
	dir, v1 := g.v1(memory)
	file := "memory.events"
	if v1 {
		file = "memory.oom_control"
	}
	return keyed(dir, file)["oom_kill"]
}

// keyed reads a file of lines with a name and a number.
func keyed(dir, file string) map[string]uint64 {
	raw, _ := os.ReadFile(filepath.Join(dir, file))
	numbers := map[string]uint64{}
	for line := range strings.Lines(string(raw)) {
		name, text, _ := strings.Cut(strings.TrimSpace(line), " ")
		if n, err := strconv.ParseUint(text, 10, 64); err == nil {
			numbers[name] = n
		}
	}
	return numbers
}
