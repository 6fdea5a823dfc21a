package process

import (
	"os/exec"
	goruntime "runtime"
	"sync"
)

// forker starts processes from one OS thread that lives as long as the runtime.
//
// The parent-death signal of Linux fires when the *thread* that forked ends, and
// Go ends and makes threads as it likes: without this, a live agent could lose a
// backend for no reason. Nothing slow happens on the thread, only fork and exec.
type forker struct {
	requests chan forkRequest
	stopped  chan struct{}
	closing  sync.Once
}

type forkRequest struct {
	cmd   *exec.Cmd
	reply chan error
}

func newForker() *forker {
	f := &forker{requests: make(chan forkRequest), stopped: make(chan struct{})}
	go f.run()
	return f
}

func (f *forker) run() {
	defer close(f.stopped)
	// Never unlocked: the thread must end with this goroutine, not be reused,
	// because prepareThread changes it for good.
	goruntime.LockOSThread()
	prepareErr := prepareThread()
	for request := range f.requests {
		err := prepareErr
		if err == nil {
			err = request.cmd.Start()
		}
		request.reply <- err
	}
}

// start starts the command. It must not be called after close.
func (f *forker) start(cmd *exec.Cmd) error {
	reply := make(chan error, 1)
	f.requests <- forkRequest{cmd: cmd, reply: reply}
	return <-reply
}

func (f *forker) close() {
	f.closing.Do(func() { close(f.requests) })
	<-f.stopped
}
