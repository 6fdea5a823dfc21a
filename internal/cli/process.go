package cli

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/process"
	"github.com/jetway-project/jetway/messages"
)

// processFlags are for drones whose runtime is process.
type processFlags struct {
	ProcessRoot string `type:"path" placeholder:"DIR" help:"Directory of the executables that the process runtime may run."`
	ProcessUser string `placeholder:"USER" help:"User that backends run as, by name or number, or a range of numbers (200000-265535) for a user each. Takes an agent that runs as root. Default: the agent's own user."`
	Landlock    bool   `help:"Restrict backends with Landlock, where the kernel has it (Linux 5.13): they read and run only what is below --process-root and what is the system's (/usr, /etc, …), write only to their own directory, and signal nobody else."`
	Cgroup      string `placeholder:"DIR" help:"Cgroup (version 2) below which each backend gets one of its own, or none. Default: the unit's own where systemd delegates it, else /jetway for root; without either, processes are found by their environment."`
}

// process makes the runtime, and says which protections this machine cannot give.
func (c *processFlags) process(r *run, d *droneCmd, stateDir string, capacity messages.Capacity) (rt runtime.Runtime, about string, err error) {
	rt, err = process.New(process.Config{
		Root: c.ProcessRoot, Host: d.IP, StateDir: stateDir, Drone: d.Name, User: c.ProcessUser, Cgroup: c.Cgroup, Landlock: c.Landlock,
	})
	for sentinel, flag := range map[error]string{
		process.ErrUser: "--process-user", process.ErrCgroup: "--cgroup", process.ErrHost: "--ip", process.ErrDir: "--data-dir",
	} {
		if errors.Is(err, sentinel) {
			return nil, "", badFlag(flag, err)
		}
	}
	if err != nil {
		return nil, "", badFlag("--process-root", err)
	}
	machine := rt.(interface {
		Lacks() (cgroups string, limits map[string]string)
		Unconfined() string
		About() string
	})
	cgroups, limits := machine.Lacks()
	for flag, of := range map[string]struct {
		controller string
		set        bool
	}{"--max-memory": {"memory", capacity.MaxMemoryBytes > 0}, "--max-cpus": {"cpu", capacity.MaxCPUMillis > 0}} {
		if why, lacks := limits[of.controller]; lacks && of.set {
			return nil, "", errors.Join(usagef("%s: no backend could promise itself a part of it, since this drone cannot hold a process to a limit of %s: %s; leave the flag out, or mend that",
				flag, of.controller, why), rt.Close())
		}
	}
	log := r.log.With("drone", d.Name)
	if cgroups != "" {
		log.WarnContext(r.ctx, "backends get no cgroup of their own: what they start is found by its environment, and children that clear it outlive their backend; there are no limits of resources", "why", cgroups)
	} else if len(limits) > 0 {
		log.WarnContext(r.ctx, "some resources of backends cannot be limited: a request for that is refused", "why", fmt.Sprint(limits), "resources", slices.Sorted(maps.Keys(limits)))
	}
	if why := machine.Unconfined(); why != "" {
		log.WarnContext(r.ctx, "backends are not held by Landlock: they can read and write what their user can", "why", why)
	}
	return rt, machine.About(), nil
}
