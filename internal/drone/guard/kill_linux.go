package guard

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/jetway-project/jetway/internal/drone/journal"
	"github.com/jetway-project/jetway/internal/procs"
	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/cgroup"
)

// kill kills all that there is of the backends, and counts per backend what
// still ran then. It has missed nothing that it can find only if err is nil.
func (g *guardian) kill(ctx context.Context, due map[string]journal.State) (left map[string]int, err error) {
	left = map[string]int{}
	var errs []error
	failed := func(err error) {
		if err != nil && !errors.Is(err, procs.ErrGone) {
			errs = append(errs, err)
		}
	}
	for id, state := range due {
		if populated, err := cgroup.Populated(state.Group); populated || err != nil {
			left[id]++
			failed(errors.Join(err, cgroup.Kill(state.Group)))
		}
		leader, err := procs.Open(procs.ID{PID: state.PID, Start: state.Start})
		if state.PID == 0 || err != nil {
			if state.PID != 0 {
				failed(err)
			}
			continue
		}
		if !leader.Ended() {
			left[id]++
			failed(errors.Join(leader.Signal(unix.SIGKILL), cgroup.ThawV1(leader.PID))) // it may have left its group, and sleep
		}
		failed(leader.SignalGroup(unix.SIGKILL))
		leader.Close()
	}
	names := namesOf(due)
	failed(g.killLabelled(due, names, left))
	if g.Engine == nil {
		return left, errors.Join(errs...)
	}
	// What a signal may not do the engine can, and what runs, it knows best.
	asked, cancel := context.WithTimeout(ctx, engineTimeout)
	defer cancel()
	clusters := make(map[string]string, len(names))
	for name, id := range names {
		clusters[name] = due[id].Cluster
	}
	still, err := g.Engine.End(asked, g.reader.Drone, clusters)
	for _, name := range still {
		left[names[name]]++
	}
	if err != nil {
		return left, errors.Join(append(errs, err)...)
	}
	return left, nil
}

// namesOf are the ids that backends may carry in the environment, or as a label, each with whose it is: a backend's own, and that of the
// spare that it has claimed.
func namesOf(due map[string]journal.State) map[string]string {
	names := make(map[string]string, len(due))
	for id, state := range due {
		names[id] = id
		if state.Spare != "" {
			names[state.Spare] = id
		}
	}
	return names
}

// killLabelled kills what carries one of the backends' names in its environment.
func (g *guardian) killLabelled(due map[string]journal.State, names map[string]string, left map[string]int) error {
	var errs []error
	drone := g.reader.Drone
	err := procs.Each(func(env procs.Env) bool {
		_, ok := belongs(env, drone, due, names)
		return ok
	}, func(process procs.ID, env procs.Env) {
		id, ok := belongs(env, drone, due, names)
		if !ok || process == g.self {
			return
		}
		ref, err := procs.Open(process)
		if err == nil {
			if process.PID != due[id].PID { // which is counted
				left[id]++
			}
			err = errors.Join(ref.Signal(unix.SIGKILL), cgroup.ThawV1(ref.PID))
			ref.Close()
		}
		if err != nil && !errors.Is(err, procs.ErrGone) {
			errs = append(errs, err)
		}
	})
	return errors.Join(append(errs, err)...)
}

// belongs says to which of the backends a process with that environment belongs. One
// without the drone's name, which a container may lack, goes by the backend's alone. One of another
// cluster is that of another stack, which has a drone and a backend of the same names.
func belongs(env procs.Env, drone string, due map[string]journal.State, names map[string]string) (id string, ok bool) {
	name, ok := env.Get(runtime.EnvBackendID)
	if !ok {
		return "", false
	}
	if id, ok = names[name]; !ok {
		return "", false
	}
	state := due[id]
	if cluster, said := env.Get(runtime.EnvCluster); said && cluster != state.Cluster && state.Cluster != "" {
		return "", false
	}
	of, named := env.Get(runtime.EnvDrone)
	return id, !named || of == drone
}

// able says why it could not end what it guards.
func (g *guardian) able(ctx context.Context) error {
	var engine error
	if g.Engine != nil {
		asked, cancel := context.WithTimeout(ctx, engineTimeout)
		defer cancel()
		if engine = g.Engine.Able(asked); engine == nil {
			return nil
		}
		if g.Afar {
			return fmt.Errorf("the guard could not end backends: %w", engine)
		}
		if !mayKillAll() {
			return fmt.Errorf("the guard could not end containers: the engine does not answer it (%w), and it may not kill processes of other users: "+
				"see that the engine runs, or give the guard CAP_KILL (as the unit jetway-guard@ does) in the PID namespace of the machine", engine)
		}
	}
	seen := map[procs.ID]struct{}{}
	for id, state := range g.reader.Backends {
		process := procs.ID{PID: state.PID, Start: state.Start}
		if _, ok := g.endable[process]; !ok && !mayEnd(state, process) {
			return fmt.Errorf("the guard may not kill process %d of backend %s, which runs as another user: run it as that user, or give it CAP_KILL (as the unit jetway-guard@ does)",
				state.PID, id)
		}
		seen[process] = struct{}{}
	}
	g.endable = seen
	return nil
}

// mayEnd says whether what runs of a backend could be ended. What is gone need not be.
func mayEnd(state journal.State, process procs.ID) bool {
	if state.PID == 0 || cgroup.MayKill(state.Group) {
		return true
	}
	ref, err := procs.Open(process)
	if err != nil {
		return errors.Is(err, procs.ErrGone)
	}
	defer ref.Close()
	return ref.Signal(0) == nil
}

// initialPIDs is the kernel's name of the PID namespace that it begins with.
const initialPIDs = "pid:[4026531836]"

// mayKillAll says whether this process can see all processes of the machine, and kill them.
func mayKillAll() bool {
	if in, err := os.Readlink("/proc/self/ns/pid"); err != nil || in != initialPIDs {
		return false
	}
	status, err := os.ReadFile("/proc/self/status")
	_, after, ok := strings.Cut(string(status), "\nCapEff:")
	if err != nil || !ok {
		return false
	}
	text, _, _ := strings.Cut(strings.TrimSpace(after), "\n")
	effective, err := strconv.ParseUint(text, 16, 64)
	return err == nil && effective&(1<<unix.CAP_KILL) != 0
}
