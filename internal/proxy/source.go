package proxy

import (
	"errors"
	"io"
	"net"
	"syscall"
)

// source reads one way of an upgraded connection. While it waits it holds next to
// nothing: thousands of connections that are idle are the rule.
type source interface {
	// read gives some bytes, valid until release.
	read() ([]byte, error)
	release()
}

func newSource(conn net.Conn) source {
	if sys, ok := conn.(syscall.Conn); ok {
		if raw, err := sys.SyscallConn(); err == nil {
			s := &socket{raw: raw}
			s.try = s.tryRead
			return s
		}
	}
	return &stream{conn: conn}
}

// socket reads from a socket of the system: it takes a buffer when there is something
// to read, not before.
type socket struct {
	raw    syscall.RawConn
	buffer *[bufferSize]byte
	n      int
	err    error
	try    func(fd uintptr) bool // tryRead
}

func (s *socket) read() ([]byte, error) {
	s.n, s.err = 0, nil
	if err := s.raw.Read(s.try); err != nil {
		return nil, err
	}
	switch {
	case s.err != nil:
		return nil, s.err
	case s.n == 0:
		return nil, io.EOF
	}
	return s.buffer[:s.n], nil
}

func (s *socket) tryRead(fd uintptr) bool {
	if s.buffer == nil {
		s.buffer = takeBuffer()
	}
	for {
		n, err := syscall.Read(int(fd), s.buffer[:])
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EAGAIN):
			s.release()
			return false // called again when it can be read
		}
		s.n, s.err = max(n, 0), err
		return true
	}
}

func (s *socket) release() {
	if s.buffer != nil {
		giveBuffer(s.buffer)
		s.buffer = nil
	}
}

// stream reads from a connection that only Read can read, such as one over TLS.
type stream struct {
	conn   net.Conn
	small  [512]byte
	large  *[bufferSize]byte
	filled bool // small was: more is there, or soon
}

func (s *stream) read() ([]byte, error) {
	into := s.small[:]
	if s.filled {
		s.large = takeBuffer()
		into = s.large[:]
	}
	n, err := s.conn.Read(into)
	s.filled = n == len(into) || s.filled && n >= len(s.small)
	return into[:n], err
}

func (s *stream) release() {
	if s.large != nil {
		giveBuffer(s.large)
		s.large = nil
	}
}
