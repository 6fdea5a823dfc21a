package guard

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/jetway-project/jetway/internal/procs"
	"github.com/jetway-project/jetway/internal/runtime"
)

// kill kills all that there is of the backends, and counts per backend the processes
// that still ran then. It has missed nothing that it can find only if err is nil.
func kill(drone string, due map[string]Lease) (left map[string]int, err error) {
	left = map[string]int{}
	var errs []error
	failed := func(err error) {
		if err != nil && !errors.Is(err, procs.ErrGone) {
			errs = append(errs, err)
		}
	}
	for id, lease := range due {
		if lease.PID == 0 {
			continue
		}
		leader, err := procs.Open(procs.ID{PID: lease.PID, Start: lease.start})
		if err != nil {
			failed(err)
			continue
		}
		if !leader.Ended() {
			left[id]++
			failed(leader.Signal(unix.SIGKILL)) // it may have left its group
		}
		failed(leader.SignalGroup(unix.SIGKILL))
		leader.Close()
	}
	self := os.Getpid()
	failed(procs.Each(func(env procs.Env) bool {
		_, ok := belongs(env, drone, due)
		return ok
	}, func(process procs.ID, env procs.Env) {
		id, ok := belongs(env, drone, due)
		if !ok || process.PID == self {
			return
		}
		ref, err := procs.Open(process)
		if err != nil {
			failed(err)
			return
		}
		defer ref.Close()
		if process.PID != due[id].PID { // which is counted
			left[id]++
		}
		failed(ref.Signal(unix.SIGKILL))
	}))
	return left, errors.Join(errs...)
}

// belongs says to which of the backends a process with that environment belongs. One
// without the drone's name, which a container may lack, goes by the backend's id alone.
func belongs(env procs.Env, drone string, due map[string]Lease) (id string, ok bool) {
	if id, ok = env.Get(runtime.EnvBackendID); !ok {
		return "", false
	}
	if _, ok = due[id]; !ok {
		return "", false
	}
	of, named := env.Get(runtime.EnvDrone)
	return id, !named || of == drone
}
