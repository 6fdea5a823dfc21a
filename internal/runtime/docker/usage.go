package docker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/jetway-project/jetway/internal/runtime"
)

// cgroupRoot is where control groups are mounted, in either version.
const cgroupRoot = "/sys/fs/cgroup"

// cgroup is where the files of a container's control group are; found once.
type cgroup struct {
	once sync.Once
	v2   bool
	// memory and cpu are directories; the same one in version 2, "" where there is none.
	memory, cpu string
}

// Usage reads the files of the container's control group, or asks the engine where it
// is not on this machine.
func (i *Instance) Usage(ctx context.Context) (runtime.Usage, error) {
	if i.hasEnded() {
		return runtime.Usage{}, errors.New("the container has ended")
	}
	i.cgroup.of(i)
	if i.cgroup.memory != "" && i.cgroup.cpu != "" {
		return i.cgroup.usage(i.memLimit)
	}
	if i.r.boundless {
		return runtime.Usage{}, nil // it has no group of its own; Podman tells the machine's use
	}
	return i.askUsage(ctx)
}

// of finds the group of a container that runs on this machine.
func (g *cgroup) of(i *Instance) {
	if i.pid != 0 {
		g.once.Do(func() { g.find(i.pid, i.id) })
	}
}

// killed says that the kernel has killed a process of the group for want of memory.
func (g *cgroup) killed() bool {
	file := "memory.oom_control"
	if g.v2 {
		file = "memory.events"
	}
	raw, err := os.ReadFile(path.Join(g.memory, file))
	return err == nil && pairs(raw)["oom_kill"] > 0
}

// runsIn says whether a process runs in a container, by the name of its control
// group. The kernel tells, no process can choose.
func runsIn(pid int, id string) bool {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	return err == nil && pid > 0 && bytes.Contains(raw, []byte(id))
}

// find reads lines such as `4:memory:/docker/<id>` and, in version 2, `0::/…/<id>`.
func (g *cgroup) find(pid int, id string) {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(raw)) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(fields) != 3 || !strings.Contains(fields[2], id) {
			continue
		}
		if fields[1] == "" {
			dir := path.Join(cgroupRoot, fields[2])
			if _, err := os.Stat(path.Join(dir, "memory.current")); err == nil {
				g.v2, g.memory, g.cpu = true, dir, dir
				return
			}
		}
		for controller := range strings.SplitSeq(fields[1], ",") {
			switch controller {
			case "memory":
				g.memory = path.Join(cgroupRoot, "memory", fields[2])
			case "cpuacct":
				g.cpu = path.Join(cgroupRoot, "cpuacct", fields[2])
			}
		}
	}
}

func (g *cgroup) usage(limit uint64) (runtime.Usage, error) {
	usedFile, cpuFile := "memory.usage_in_bytes", "cpuacct.usage"
	if g.v2 {
		usedFile, cpuFile = "memory.current", "cpu.stat"
	}
	used, usedErr := os.ReadFile(path.Join(g.memory, usedFile))
	stat, statErr := os.ReadFile(path.Join(g.memory, "memory.stat"))
	cpu, cpuErr := os.ReadFile(path.Join(g.cpu, cpuFile))
	if err := errors.Join(usedErr, statErr, cpuErr); err != nil {
		return runtime.Usage{}, fmt.Errorf("read the container's usage: %w", err)
	}
	usage := memoryUsage(number(used), pairs(stat), limit)
	if g.v2 {
		usage.CPU = time.Duration(pairs(cpu)["usage_usec"]) * time.Microsecond
	} else {
		usage.CPU = time.Duration(number(cpu))
	}
	return usage, nil
}

// number reads a file that holds one; 0 is what cannot be read.
func number(raw []byte) uint64 {
	n, _ := strconv.ParseUint(string(bytes.TrimSpace(raw)), 10, 64)
	return n
}

// pairs reads lines of a name and a number.
func pairs(raw []byte) map[string]uint64 {
	found := map[string]uint64{}
	for line := range strings.Lines(string(raw)) {
		if name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " "); ok {
			if n, err := strconv.ParseUint(value, 10, 64); err == nil {
				found[name] = n
			}
		}
	}
	return found
}

// memoryUsage has Plane's fields. stat is memory.stat; in version 1 the names with
// total_ count what is below the group, too.
func memoryUsage(used uint64, stat map[string]uint64, limit uint64) runtime.Usage {
	prefix := ""
	if _, v1 := stat["total_inactive_file"]; v1 {
		prefix = "total_"
	}
	get := func(name string) uint64 { return stat[prefix+name] }
	return runtime.Usage{
		MemUsed:        used - min(get("inactive_file"), used),
		MemActive:      get("active_anon") + get("active_file"),
		MemInactive:    get("inactive_anon") + get("inactive_file"),
		MemUnevictable: get("unevictable"),
		MemLimit:       limit,
	}
}

// askUsage asks the engine once.
func (i *Instance) askUsage(ctx context.Context) (runtime.Usage, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	answer, err := i.r.engine.ContainerStats(ctx, i.id, client.ContainerStatsOptions{})
	if err != nil {
		return runtime.Usage{}, fmt.Errorf("ask Docker for the container's usage: %w", plain(err))
	}
	defer answer.Body.Close()
	var stats container.StatsResponse
	if err := json.NewDecoder(answer.Body).Decode(&stats); err != nil {
		return runtime.Usage{}, fmt.Errorf("read the container's usage: %w", err)
	}
	usage := memoryUsage(stats.MemoryStats.Usage, stats.MemoryStats.Stats, i.memLimit)
	usage.CPU = time.Duration(stats.CPUStats.CPUUsage.TotalUsage)
	return usage, nil
}
