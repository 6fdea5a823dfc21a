package process

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// poller waits for all that is to be heard of the processes, their output and their ends, in one
// goroutine: one for each would take more memory than all else of a process.
type poller struct {
	epoll, wake int
	stopped     chan struct{}
	closing     sync.Once

	mu      sync.Mutex
	last    int32
	sources map[int32]heard
	// due is when to call whom, also if there is nothing to hear.
	due map[int32]time.Time
}

// heard is called when there is something to hear, or its time has come. It says whether, and until
// when at the latest, it is to be called again. It must not wait.
type heard func(something bool) (again bool, atLatest time.Time)

func newPoller() (*poller, error) {
	p := &poller{stopped: make(chan struct{}), sources: map[int32]heard{}, due: map[int32]time.Time{}}
	var err error
	if p.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err == nil {
		if p.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC); err == nil {
			err = unix.EpollCtl(p.epoll, unix.EPOLL_CTL_ADD, p.wake, &unix.EpollEvent{Events: unix.EPOLLIN})
		}
	}
	if err != nil {
		return nil, fmt.Errorf("watch processes: %w", err)
	}
	go p.run()
	return p, nil
}

// add has a descriptor heard, with once set no more than once for each change of it.
func (p *poller) add(fd int, once bool, call heard) (id int32, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last++ // begins with 1
	event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: p.last}
	if once {
		event.Events |= unix.EPOLLET
	}
	if err := unix.EpollCtl(p.epoll, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
		return 0, fmt.Errorf("watch a process: %w", err)
	}
	p.sources[p.last] = call
	return p.last, nil
}

// forget has a descriptor, which is still open, not heard any more. A call may be under way.
func (p *poller) forget(id int32, fd int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.sources[id]; ok {
		_ = unix.EpollCtl(p.epoll, unix.EPOLL_CTL_DEL, fd, nil)
		delete(p.sources, id)
		delete(p.due, id)
	}
}

func (p *poller) run() {
	defer close(p.stopped)
	var events [128]unix.EpollEvent
	for {
		n, err := unix.EpollWait(p.epoll, events[:], p.timeout())
		if err != nil && !errors.Is(err, unix.EINTR) {
			panic(os.NewSyscallError("epoll_wait", err)) // it cannot fail; a deaf agent would be worse
		}
		for _, event := range events[:max(n, 0)] {
			if event.Fd == 0 {
				return
			}
			p.call(event.Fd, true)
		}
		for _, id := range p.late() {
			p.call(id, false)
		}
	}
}

func (p *poller) call(id int32, something bool) {
	p.mu.Lock()
	call := p.sources[id]
	p.mu.Unlock()
	if call == nil {
		return
	}
	again, at := call(something)
	p.mu.Lock()
	defer p.mu.Unlock()
	if !again {
		delete(p.sources, id)
	}
	if _, ok := p.sources[id]; ok && !at.IsZero() {
		p.due[id] = at
	} else {
		delete(p.due, id)
	}
}

// late are those whose time has come.
func (p *poller) late() (ids []int32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, at := range p.due {
		if !time.Now().Before(at) {
			ids = append(ids, id)
		}
	}
	return ids
}

// timeout is how long to wait, in ms.
func (p *poller) timeout() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	const atMost = time.Minute // nothing is due so late
	wait := atMost
	for _, at := range p.due {
		wait = min(wait, time.Until(at))
	}
	if wait == atMost {
		return -1
	}
	return int((max(wait, 0) + time.Millisecond - 1) / time.Millisecond)
}

// close hears nothing more.
func (p *poller) close() {
	p.closing.Do(func() {
		_, _ = unix.Write(p.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
		<-p.stopped
		p.mu.Lock()
		defer p.mu.Unlock()
		clear(p.sources)
		_ = unix.Close(p.wake)
		_ = unix.Close(p.epoll)
	})
}
