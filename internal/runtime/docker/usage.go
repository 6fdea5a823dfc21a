package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/cgroup"
)

// Usage reads the files of the container's control group, or asks the engine where it
// is not on this machine.
func (i *Instance) Usage(ctx context.Context) (usage runtime.Usage, err error) {
	known := false
	switch {
	case i.hasEnded():
		return usage, errors.New("the container has ended")
	case i.r.boundless:
		return usage, nil // it has no group of its own; Podman tells the machine's use
	case i.process != nil:
		usage, known = i.process.Usage()
	}
	if !known {
		usage, err = i.askUsage(ctx)
	}
	usage.MemLimit = i.memLimit
	return usage, err
}

// askUsage asks the engine once.
func (i *Instance) askUsage(ctx context.Context) (usage runtime.Usage, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	answer, err := i.r.engine.ContainerStats(ctx, i.id, client.ContainerStatsOptions{})
	if err != nil {
		return usage, fmt.Errorf("ask Docker for the container's usage: %w", plain(err))
	}
	defer answer.Body.Close()
	var stats container.StatsResponse
	if err := json.NewDecoder(answer.Body).Decode(&stats); err != nil {
		return usage, fmt.Errorf("read the container's usage: %w", err)
	}
	usage = cgroup.Memory(stats.MemoryStats.Usage, stats.MemoryStats.Stats)
	usage.CPU = time.Duration(stats.CPUStats.CPUUsage.TotalUsage)
	return usage, nil
}
