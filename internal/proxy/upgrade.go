package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// halfOpenTimeout is for how long one direction of an upgraded connection may be
// silent once the other has ended.
const halfOpenTimeout = time.Minute

// switchProtocols lets the upgraded connection go on by itself: from here on bytes
// pass unchanged, in two goroutines, until both sides have ended or one failed.
// The goroutine of the request ends, and with it goes what the HTTP server held for it.
func (x *exchange) switchProtocols() error {
	client, rw, err := x.ps.control.Hijack()
	if err != nil {
		return err
	}
	x.begun = true // what the HTTP server could answer with is gone
	if !x.ps.upgraded(client) {
		_ = client.Close()
		return net.ErrClosed
	}
	if err := x.answerSwitch(client, rw.Reader); err != nil {
		_ = client.Close()
		return err
	}
	x.answered()
	s := &splice{p: x.p, ps: x.ps, client: client, backend: x.conn.Conn}
	if s.p.cfg.AccessLog {
		s.visit, s.line = x.v, x.v.line()
		s.visit.w, s.visit.r = nil, nil // they hold much
	}
	x.v.handedOn = true
	s.p.gate.stay()
	s.p.upgrades.Add(1)
	s.ways.Store(2)
	s.p.splices.Add(2)
	go s.run(s.backend, s.client, &s.received)
	go s.run(s.client, s.backend, &s.sent)
	return nil
}

// answerSwitch writes the response with which the protocol changes, and what either
// side has already said in the new one.
func (x *exchange) answerSwitch(client net.Conn, from *bufio.Reader) error {
	h := make(http.Header, len(x.resp.Header)+8)
	copyFields(h, x.resp.Header)
	setGeneral(h)
	h.Set(headerBackendID, x.out.route.backend)
	h.Set("Connection", "Upgrade")
	h["Upgrade"] = x.resp.Header["Upgrade"]

	var answer bytes.Buffer
	answer.WriteString("HTTP/1.1 101 Switching Protocols\r\n")
	_ = h.Write(&answer)
	answer.WriteString("\r\n")
	late, err := x.conn.in.Peek(x.conn.in.Buffered())
	if err != nil {
		return err
	}
	answer.Write(late)
	if _, err := client.Write(answer.Bytes()); err != nil {
		return err
	}
	early, err := from.Peek(from.Buffered())
	if err != nil || len(early) == 0 {
		return err
	}
	_, err = x.conn.Conn.Write(early)
	return err
}

// splice is an upgraded connection.
type splice struct {
	p               *Proxy
	ps              *passage
	client, backend net.Conn
	ways            atomic.Int32 // that go on
	half            atomic.Bool  // one way has ended
	received, sent  atomic.Int64 // bytes

	// For the access log, if there is one.
	visit *visit
	line  []slog.Attr
}

// run is one way. The last to end clears up.
func (s *splice) run(to, from net.Conn, passed *atomic.Int64) {
	defer s.p.splices.Done()
	err := s.flow(to, from, passed)
	if err == nil {
		_ = closeWrite(to) // who has gone takes no end
	}
	if err == nil || errors.Is(err, errDeaf) {
		// What is at the other end may have said something before, such as why it ends:
		// the other way passes that on, and ends with it.
		s.half.Store(true)
		err = to.SetReadDeadline(time.Now().Add(halfOpenTimeout))
	}
	if err != nil {
		s.ps.abort() // the other way too
	}
	if s.ways.Add(-1) == 0 {
		s.ps.abort()
		s.ps.end()
		s.p.activity.leave(s.ps)
		s.p.upgrades.Add(-1)
		if s.visit != nil {
			s.visit.received, s.visit.sent = s.received.Load(), s.sent.Load()
			s.p.logVisit(s.visit, "upgraded connection", s.line)
		}
		s.p.gate.leave()
	}
}

// errDeaf says that one end takes nothing in any more.
var errDeaf = errors.New("cannot be written to")

// flow copies until from ends, nil then, or something fails.
func (s *splice) flow(to, from net.Conn, passed *atomic.Int64) error {
	in := newSource(from)
	for {
		bytes, err := in.read()
		if len(bytes) > 0 {
			if _, err := to.Write(bytes); err != nil {
				in.release()
				return fmt.Errorf("%w: %w", errDeaf, err)
			}
			passed.Add(int64(len(bytes)))
		}
		in.release()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case s.half.Load():
			if err := from.SetReadDeadline(time.Now().Add(halfOpenTimeout)); err != nil {
				return err
			}
		}
	}
}

func closeWrite(conn net.Conn) error {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return conn.Close()
}
