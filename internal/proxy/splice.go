package proxy

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync/atomic"
	"time"
)

// halfOpenTimeout is for how long one direction of an upgraded connection may be
// silent once the other has ended.
const halfOpenTimeout = time.Minute

// splice is an upgraded connection: two ways of bytes.
type splice struct {
	p    *Proxy
	ps   *passage
	up   way // from the client to the backend
	down way
	ways atomic.Int32 // that go on
	half atomic.Bool  // one way has ended
	said bool         // the client was told why it is cut; down's, and after it the last one's
	left func()       // to be called when both ends are closed and nothing is left to do
	loop *loop        // that carries it, or did

	// For the access log, if there is one.
	visit *visit
	line  []slog.Attr
}

// way is one direction. Both are carried by a loop, as long as all that comes can be written at
// once, and else by a goroutine each.
type way struct {
	s        *splice
	from, to net.Conn // nil in a loop
	seat     seat
	passed   atomic.Int64 // bytes
	frames   *frames      // that it passes on; nil: no WebSocket's
	// What a loop has read but could not write, and how reading failed there.
	rest   []byte
	failed error
}

func newSplice(p *Proxy, ps *passage, client, backend net.Conn) *splice {
	s := &splice{p: p, ps: ps}
	s.up.s, s.down.s = s, s
	s.between(client, backend)
	return s
}

func (s *splice) between(client, backend net.Conn) {
	s.up.from, s.up.to = client, backend
	s.down.from, s.down.to = backend, client
}

// begin lets the bytes pass.
func (s *splice) begin() {
	s.p.upgrades.Add(1)
	s.ways.Store(2)
	s.p.splices.Add(2)
	s.ps.splices()
	if !s.ps.carry(s) {
		s.carryOn()
	}
}

// carryOn has a goroutine for each way.
func (s *splice) carryOn() {
	go s.up.run()
	go s.down.run()
}

// run carries a way from here on to its end.
func (w *way) run() {
	w.ended(w.flow())
}

// ended says how a way has ended. The last to end clears up.
func (w *way) ended(err error) {
	s := w.s
	defer s.p.splices.Done()
	if err == nil {
		_ = closeWrite(w.to) // who has gone takes no end
	}
	if err == nil || errors.Is(err, errDeaf) {
		// What is at the other end may have said something before, such as why it ends:
		// the other way passes that on, and ends with it.
		s.half.Store(true)
		err = w.to.SetReadDeadline(time.Now().Add(halfOpenTimeout))
	}
	if err != nil {
		s.ps.abort() // the other way too
	}
	if w == &s.down && s.ps.cutFor() != 0 && !s.say() && w.to != nil {
		_ = underTLS(w.to).Close() // by force: there is nothing to wait for
	}
	if s.ways.Add(-1) == 0 {
		s.ps.abort()
		s.close(s.down.to, s.down.from)
		s.ps.end()
		s.p.activity.leave(s.ps)
		s.p.upgrades.Add(-1)
		if s.visit != nil {
			s.visit.received, s.visit.sent = s.up.passed.Load(), s.down.passed.Load()
			s.p.logVisit(s.visit, "upgraded connection", s.line)
		}
		s.left()
	}
}

// close closes what is left of both ends.
func (s *splice) close(client, backend net.Conn) {
	if backend != nil {
		_ = backend.Close()
	}
	if client == nil {
		return
	}
	if s.said {
		hearOut(client)
	}
	_ = underTLS(client).Close()
}

// say tells the client of a WebSocket why it is cut, where that can be told. It is for who has written to it, and does no more.
func (s *splice) say() bool {
	client, frames := s.down.to, s.down.frames
	if client == nil || frames == nil || !frames.between() {
		return false
	}
	s.said = farewell(client, s.ps.cutFor(), s.p.cfg.waits.linger)
	return s.said
}

// errDeaf says that one end takes nothing in any more.
var errDeaf = errors.New("cannot be written to")

// flow copies until from ends, nil then, or something fails.
func (w *way) flow() error {
	if w.failed != nil {
		return w.failed
	}
	if len(w.rest) > 0 {
		if err := w.write(w.rest); err != nil {
			return err
		}
		w.rest = nil
	}
	in := newSource(w.from)
	for {
		bytes, err := in.read()
		if len(bytes) > 0 {
			if err := w.write(bytes); err != nil {
				in.release()
				return err
			}
		}
		in.release()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case w.s.half.Load():
			if err := w.from.SetReadDeadline(time.Now().Add(halfOpenTimeout)); err != nil {
				return err
			}
		}
	}
}

func (w *way) write(bytes []byte) error {
	if w == &w.s.up { // what waits for the backend keeps it awake
		w.s.p.activity.unsettled(w.s.ps)
		defer w.s.p.activity.settled(w.s.ps)
	}
	if _, err := w.to.Write(bytes); err != nil {
		if w.frames != nil {
			w.frames.over = true // nobody knows how much of it was written
		}
		return fmt.Errorf("%w: %w", errDeaf, err)
	}
	w.took(bytes)
	return nil
}

// took notes what was passed on.
func (w *way) took(bytes []byte) {
	w.passed.Add(int64(len(bytes)))
	if w.frames == nil || w.frames.pass(bytes) {
		w.s.p.activity.passed(w.s.ps)
	}
}

func closeWrite(conn net.Conn) error {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return conn.Close()
}
