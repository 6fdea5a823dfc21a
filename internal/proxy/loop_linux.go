package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A loop carries plain requests (errand_linux.go), and upgraded connections that are plain sockets at both ends: all of them in
// one goroutine and with one buffer. That spares each message the waking of a goroutine and
// the read that finds nothing, and each idle connection what Go holds for it: two stacks and two
// connections.
//
// It does only what can be done at once. A connection of which one side has ended or failed,
// has much to say or takes in less than comes, or that is to be cut, it leaves to goroutines, for good. So a
// loop never waits but for its next event, and there is one place where ways end.
//
// The sockets of what it carries are its own: they are taken away from Go's net.Conn, whose
// poller would wake for each message too, and given back when they leave. They are closed by
// nobody meanwhile, so their numbers are never another's.
type loop struct {
	epoll int
	// over ends the loop once it can be read from.
	over int

	p  *Proxy
	mu sync.Mutex
	// By what is read from.
	ways    map[int32]*way
	callers map[int32]*caller
	callees map[int32]*callee

	idle      map[place][]*callee // the latest last
	idleCount int
	shut      bool           // no callers are let in any more
	handing   sync.WaitGroup // that are being handed on

	// What is used for one event at a time.
	in       fields
	request  http.Request
	answers  http.Header
	said     []byte
	dated    int64
	dateText string
}

// seat has the numbers of a way's sockets while a loop carries it.
type seat struct{ from, to int32 }

const (
	// loopEvents are taken in at once, at most.
	loopEvents = 128
	// loopTurns is how many buffers of one way are passed on before it is another's turn:
	// one that has more to say has a goroutine to say it.
	loopTurns = 4
)

func newLoop(p *Proxy) (*loop, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make an epoll: %w", err)
	}
	over, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		_ = unix.Close(epoll)
		return nil, fmt.Errorf("make an eventfd: %w", err)
	}
	l := &loop{
		epoll: epoll, over: over, p: p,
		ways: map[int32]*way{}, callers: map[int32]*caller{}, callees: map[int32]*callee{}, idle: map[place][]*callee{},
		in: fields{header: http.Header{}}, answers: http.Header{},
	}
	if err := l.control(unix.EPOLL_CTL_ADD, int32(over)); err != nil {
		l.close()
		return nil, fmt.Errorf("wait for an eventfd: %w", err)
	}
	return l, nil
}

// end ends run. Nothing may be in the loop any more.
func (l *loop) end() {
	_, _ = unix.Write(l.over, []byte{1, 0, 0, 0, 0, 0, 0, 0})
}

func (l *loop) close() { _, _ = unix.Close(l.over), unix.Close(l.epoll) }

// run passes on what comes until end. It waits in a thread of its own, and not as Go
// does: that would wake another thread for each event while this one is at work.
func (l *loop) run() {
	defer l.close()
	events := make([]unix.EpollEvent, loopEvents)
	buffer := make([]byte, bufferSize)
	for {
		n, err := unix.EpollWait(l.epoll, events, -1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return // it cannot be: the epoll is open, and events are its own
		}
		for i := range max(n, 0) {
			if events[i].Fd == int32(l.over) {
				return
			}
			l.pass(&events[i], buffer)
		}
	}
}

// overs are in an event when there is something to be found after what one read gives: an
// end, or bytes that came with urgent ones. Without it, a read that did not fill the buffer has
// read all, and what comes then is another event.
const overs = unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR | unix.EPOLLPRI

// pass deals with an event.
func (l *loop) pass(event *unix.EpollEvent, buffer []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w := l.ways[event.Fd]; w != nil {
		l.passOn(w, event.Events, buffer)
	} else if s := l.callees[event.Fd]; s != nil {
		l.heard(s, event.Events, buffer)
	} else if c := l.callers[event.Fd]; c != nil {
		l.called(c, event.Events, buffer)
	} // else it left meanwhile
}

// passOn passes on what a way has to say.
func (l *loop) passOn(w *way, events uint32, buffer []byte) {
	for range loopTurns {
		n, err := unix.Read(int(w.seat.from), buffer)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return
		case err != nil:
			l.leave(w, nil, err)
			return
		case n <= 0:
			l.leave(w, nil, nil)
			return
		}
		written := writeSome(int(w.seat.to), buffer[:n])
		w.took(buffer[:written])
		if written < n {
			l.leave(w, buffer[written:n], nil)
			return
		}
		if n < len(buffer) && events&overs == 0 {
			return
		}
	}
	l.leave(w, nil, nil)
}

// writeSome writes what can be written at once. Why it is not all, who writes the rest finds out.
func writeSome(fd int, bytes []byte) (written int) {
	for written < len(bytes) {
		n, err := unix.Write(fd, bytes[written:])
		if n <= 0 && !errors.Is(err, unix.EINTR) {
			return written
		}
		written += max(n, 0)
	}
	return written
}

// leave hands over to goroutines what w belongs to, with what of w is still to be written.
// failed is why w ends, where that is known: the system tells it once. It is for who holds l.mu.
func (l *loop) leave(w *way, rest []byte, failed error) {
	w.rest, w.failed = bytes.Clone(rest), failed
	for _, fd := range []int32{w.seat.from, w.seat.to} {
		delete(l.ways, fd)
		_ = l.control(unix.EPOLL_CTL_DEL, fd)
	}
	go w.s.land()
}

// join takes over the sockets of a splice, or says that it cannot, and leaves it as it is.
func (l *loop) join(s *splice) bool {
	client, err := take(s.up.from)
	if err != nil {
		return false
	}
	backend, err := take(s.down.from)
	if err != nil {
		_ = unix.Close(int(client))
		return false
	}
	if !l.sit(s, client, backend) {
		_, _ = unix.Close(int(client)), unix.Close(int(backend))
		return false
	}
	return true
}

func (l *loop) sit(s *splice, client, backend int32) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.control(unix.EPOLL_CTL_ADD, client) != nil {
		return false
	}
	if l.control(unix.EPOLL_CTL_ADD, backend) != nil {
		_ = l.control(unix.EPOLL_CTL_DEL, client)
		return false
	}
	s.up.seat, s.down.seat = seat{client, backend}, seat{backend, client}
	l.ways[client], l.ways[backend] = &s.up, &s.down
	// They stay open: the loop has them under other numbers.
	_, _ = s.up.from.Close(), s.down.from.Close()
	s.between(nil, nil)
	s.loop = l
	return true
}

func (l *loop) control(op int, fd int32) error {
	return unix.EpollCtl(l.epoll, op, int(fd), &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLPRI | unix.EPOLLRDHUP | unix.EPOLLET, Fd: fd})
}

// take gives a number of its own to a socket which is nothing but one.
func take(conn net.Conn) (fd int32, err error) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return 0, errors.ErrUnsupported
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return 0, err
	}
	outer := raw.Control(func(open uintptr) {
		var n int
		n, err = unix.FcntlInt(open, unix.F_DUPFD_CLOEXEC, 0)
		fd = int32(n)
	})
	return fd, errors.Join(outer, err)
}

// full is how long is waited for a number where there is none left.
const full = 20 * time.Millisecond

// source gives back to Go the socket that a way reads from. It has a number of its own again
// then: where there is none, it waits for one until the passage is cut.
func (w *way) source() (net.Conn, error) {
	return fileConn(w.seat.from, func(error) bool { return w.s.ps.wasCut() })
}

// fileConn gives a socket back to Go, or closes it. Where there is no number for it, it waits for one until it is to give up.
func fileConn(fd int32, giveUp func(error) bool) (net.Conn, error) {
	file := os.NewFile(uintptr(fd), "socket")
	defer func() { _ = file.Close() }()
	for {
		conn, err := net.FileConn(file)
		if !noneLeft(err) || giveUp(err) {
			return conn, err
		}
		<-time.After(full)
	}
}

// land goes on with goroutines where a loop has left.
func (s *splice) land() {
	client, err := s.up.source()
	backend, backendErr := s.down.source()
	err = errors.Join(err, backendErr)
	s.between(client, backend)
	if err == nil {
		if s.ps.landed(client, backend) {
			s.carryOn()
			return
		}
		err = net.ErrClosed // it was cut
	}
	s.up.ended(err)
	s.down.ended(err)
}

// leaveLoop has what a loop carries leave it.
func (s *splice) leaveLoop() {
	s.loop.mu.Lock()
	defer s.loop.mu.Unlock()
	if s.loop.ways[s.up.seat.from] == &s.up {
		s.loop.leave(&s.up, nil, nil)
	}
}
