package process

import (
	goruntime "runtime"
	"sync"
	"syscall"
)

// forker starts processes from one OS thread that lives as long as the runtime.
//
// What a process inherits of the thread that forks it must not be put upon the agent's
// other threads. And the parent-death signal of Linux fires when the *thread* that
// forked ends, and Go ends and makes threads as it likes: without this, a live agent
// could lose a backend for no reason. Nothing slow happens on the thread, only fork and
// exec.
type forker struct {
	requests chan forkRequest
	stopped  chan struct{}
	closing  sync.Once
}

// program is what is to be run.
type program struct {
	path      string
	args, env []string
	dir       string
	files     []uintptr // stdin, stdout, stderr
	cpuTime   int64     // s; 0: no limit
	// enter, if set, has what the thread forks be born in the right place, until leave.
	enter func() (leave func(), err error)
	// confine, if set, takes rights from the thread for good.
	confine func() error
}

type forkRequest struct {
	program
	sys   *syscall.SysProcAttr
	reply chan forked
}

type forked struct {
	pid int
	err error
}

func newForker() *forker {
	f := &forker{requests: make(chan forkRequest), stopped: make(chan struct{})}
	go f.run()
	return f
}

func (f *forker) run() {
	defer close(f.stopped)
	forkFrom(f.requests)
}

// forkFrom forks from a thread of its own, until there is nothing more to come.
func forkFrom(requests <-chan forkRequest) {
	// Never unlocked: the thread must end with this goroutine, not be reused,
	// because prepareThread changes it for good.
	goruntime.LockOSThread()
	if onMainThread() { // which stands for the process, and lasts as long: another is found while it is held
		defer goruntime.UnlockOSThread()
		done := make(chan struct{})
		go func() {
			defer close(done)
			forkFrom(requests)
		}()
		<-done
		return
	}
	prepareErr := prepareThread()
	for request := range requests {
		answer := forked{err: prepareErr}
		if prepareErr == nil {
			answer.pid, answer.err = request.fork()
		}
		request.reply <- answer
	}
}

func (r forkRequest) fork() (pid int, err error) {
	if r.enter != nil {
		leave, err := r.enter()
		if err != nil {
			return 0, err
		}
		defer leave()
	}
	if r.confine != nil {
		if err := r.confine(); err != nil {
			return 0, err
		}
	}
	return syscall.ForkExec(r.path, r.args, &syscall.ProcAttr{Dir: r.dir, Env: r.env, Files: r.files, Sys: r.sys})
}

// start starts a program as a child that nobody but the caller may reap. It must not be
// called after close.
func (f *forker) start(p program, sys *syscall.SysProcAttr) (pid int, err error) {
	requests, reply := f.requests, make(chan forked, 1)
	if p.confine != nil { // its thread is good for nothing else then
		requests = make(chan forkRequest)
		defer close(requests)
		go forkFrom(requests)
	}
	requests <- forkRequest{program: p, sys: sys, reply: reply}
	answer := <-reply
	return answer.pid, answer.err
}

func (f *forker) close() {
	f.closing.Do(func() { close(f.requests) })
	<-f.stopped
}
