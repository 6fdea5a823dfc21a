package proxy

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jetway-project/jetway/internal/metrics"
	"github.com/jetway-project/jetway/messages"
)

// A loop also has the connections of clients that speak plain HTTP/1.1, and carries requests and responses that are plain (plain.go)
// from the first byte to the last. As with upgraded connections, it does only what can be done at once, and it decides nothing: as
// soon as anything is not plain, or fails, or would have to be waited for, the connection goes on as net/http's, with what was read of
// it, and with what the backend has answered so far (handed.go). So each rule about what is odd is in one place, and there it stays.

// caller is a client's connection.
type caller struct {
	fd     int32
	client netip.Addr // as the door counts it
	from   origin
	since  time.Time // when it was accepted, or its last response had ended
	used   bool      // something was asked on it
	errand *errand   // nil: it is idle
	events uint32    // that came while it was not
}

// callee is a connection to a backend.
type callee struct {
	fd     int32
	to     place
	reused bool
	errand *errand // nil: it is idle
	since  time.Time
}

// errand is a request under way in a loop.
type errand struct {
	l      *loop
	caller *caller
	callee *callee // nil: one is being fetched
	ps     passage
	r      http.Request
	out    outgoing
	raw    string             // the head as it came
	head   []byte             // as it is to be sent once there is a callee
	cancel context.CancelFunc // of fetching one

	start time.Time
	added time.Duration
	begun bool // the response to the client has
	left  int  // of the response's body
	at    whereabouts
}

type whereabouts int

const (
	inLoop   whereabouts = iota
	handedOn             // to net/http
	landed               // a goroutine passes on what is left of the response
	returned             // it is over
)

// plainRoute says where a plain request leads, if that is known and can be used at once, and how its target is meant. It
// says what serve would find (handler.go), or nothing.
func (p *Proxy) plainRoute(r *http.Request) (*route, target, bool) {
	t, ok := targetOf(r)
	if !ok || strings.HasPrefix(t.whole, messages.EnterPath) || bearerOf(r) != "" {
		return nil, t, false
	}
	cookie, token := cookieOf(r)
	if cookie == "" {
		token = t.token
	}
	if !tokenShaped(token) || cookie == "" && t.bare {
		return nil, t, false
	}
	rt, trusted, _ := p.routes.get(token)
	if !trusted || !rt.open() || !sameHost(r.Host, rt.host) {
		return nil, t, false
	}
	switch {
	case cookie != "" && (cookie != rt.cookie() || foreign(r)):
		return nil, t, false
	case cookie != "":
		t.token, t.rest, t.mode = token, t.whole, modeOrigin
	case p.cfg.PlainPaths:
		t.mode = modePlain
	}
	if rt.due(p.routes.clock(), p.routes.trust) {
		p.join(rt.token, true, false) // nobody waits for it
	}
	return rt, t, true
}

// admit takes over the connection of a client that has yet to say something. It says false when it does not.
func (l *loop) admit(conn net.Conn, client netip.Addr) bool {
	fd, err := take(conn)
	if err != nil {
		return false
	}
	c := &caller{fd: fd, client: group(client), from: origin{client: client.String(), proto: "http"}, since: time.Now()}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.shut || l.control(unix.EPOLL_CTL_ADD, fd) != nil {
		_ = unix.Close(int(fd))
		return false
	}
	l.callers[fd] = c
	l.p.clients.Add(1)
	_ = conn.Close()
	return true
}

// called takes in what a client says.
func (l *loop) called(c *caller, events uint32, buffer []byte) {
	if e := c.errand; e != nil {
		if c.events |= events; events&overs != 0 && !e.begun {
			l.handOn(c, nil, nil)
		}
		return
	}
	c.events = 0
	for {
		n, err := unix.Read(int(c.fd), buffer)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return
		case err != nil || n <= 0:
			l.hangUp(c)
		case events&overs != 0 || !l.begin(c, buffer[:n]):
			l.handOn(c, buffer[:n], nil)
		}
		return
	}
}

// begin begins an errand. It says false, and has done nothing, where the request is not plain or cannot go on at once.
func (l *loop) begin(c *caller, said []byte) bool {
	if len(said) > longestPlain {
		return false
	}
	start, raw := time.Now(), string(said)
	if !l.in.readPlain(raw, &l.request) {
		return false
	}
	rt, t, ok := l.p.plainRoute(&l.request)
	if !ok || !l.p.gate.enter() {
		return false
	}
	e := &errand{l: l, caller: c, raw: raw, start: start, r: l.request}
	e.out = newOutgoing(&e.r, t, rt, c.from)
	e.ps.route, e.ps.errand = rt, e
	l.p.activity.enter(&e.ps)
	// From here on a revocation cuts it; one that came before is seen here.
	if l.p.revoked(rt) {
		l.p.activity.leave(&e.ps)
		l.p.gate.leave()
		return false
	}
	c.errand, c.used = e, true
	l.said = e.out.appendHead(l.said[:0])
	e.r.Header = nil // it is the loop's
	for s := l.spare(rt.place()); s != nil; s = l.spare(rt.place()) {
		if l.send(e, s, l.said) {
			return true
		}
	}
	e.head = bytes.Clone(l.said)
	ctx, cancel := context.WithCancel(l.p.serving)
	e.cancel = cancel
	l.p.asks.Go(func() { // waited for by Run: its request is within the gate
		defer cancel()
		l.fetch(ctx, e)
	})
	return true
}

// send sends the head of a request. Where not all of it can be sent at once, the backend got no request and the connection
// is of no use.
func (l *loop) send(e *errand, s *callee, head []byte) bool {
	if writeSome(int(s.fd), head) < len(head) {
		l.drop(s)
		return false
	}
	s.errand, e.callee, e.head, e.cancel = e, s, nil, nil
	e.added = time.Since(e.start)
	return true
}

// fetch gets an errand its connection to the backend: one that is idle elsewhere, else a new one.
func (l *loop) fetch(ctx context.Context, e *errand) {
	rt := e.out.route
	var err error
	conn := l.p.upstream.get(rt.place())
	if conn == nil {
		if conn, err = l.p.upstream.dial(ctx, rt.place()); err == nil && !l.p.routes.trusts(rt, l.p.routes.clock()) {
			_ = conn.Close()
			err = errDistrusted // see exchange.connect
		}
	}
	s := &callee{to: rt.place()}
	if err == nil {
		s.reused = conn.reused
		s.fd, err = take(conn.Conn)
		_ = conn.Close()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		if err = l.control(unix.EPOLL_CTL_ADD, s.fd); err != nil {
			_ = unix.Close(int(s.fd))
		}
	}
	if err == nil {
		l.callees[s.fd] = s
	}
	switch {
	case e.at != inLoop || e.caller.errand != e:
		if err == nil {
			l.drop(s)
		}
	case err != nil || !l.send(e, s, e.head):
		l.handOn(e.caller, nil, err)
	}
}

// heard takes in what a backend says.
func (l *loop) heard(s *callee, events uint32, buffer []byte) {
	e := s.errand
	if e == nil { // it has ended, or said something unasked
		l.drop(s)
		return
	}
	for excess := false; ; {
		n, err := unix.Read(int(s.fd), buffer)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return
		case !e.begun:
			if said := buffer[:max(n, 0)]; err != nil || n <= 0 || !l.answer(e, said) {
				l.handOn(e.caller, said, err)
				return
			}
		case err != nil || n <= 0:
			l.abandon(e)
			return
		default:
			excess = n > e.left
			n = min(n, e.left)
			e.left -= n
			l.write(e, buffer[:n])
		}
		if e.at != inLoop {
			return
		}
		more := n == len(buffer) || excess || events&overs != 0
		if e.left == 0 {
			l.done(e, !more, buffer)
			return
		}
		if !more {
			return
		}
	}
}

var endOfHead = []byte("\r\n\r\n")

// answer passes on the head of a response and what came with it. It says false where it is not plain.
func (l *loop) answer(e *errand, said []byte) bool {
	now := time.Now()
	end := bytes.Index(said, endOfHead)
	if end < 0 {
		return false
	}
	end += len(endOfHead)
	a, ok := l.in.readAnswer(string(said[:end]), e.r.Method)
	if !ok || len(said)-end > a.length {
		return false
	}
	clear(l.answers)
	e.out.answerFields(l.answers, l.in.header)
	l.said = a.appendHead(l.said[:0], l.answers, l.date(now))
	l.said = append(l.said, said[end:]...)
	e.begun, e.left = true, a.length-(len(said)-end)
	l.write(e, l.said)
	l.p.metrics.Looked(metrics.LookupRemembered)
	l.p.metrics.Forwarded(a.status, e.added+time.Since(now))
	return true
}

// write sends to the client. What it does not take at once, a goroutine goes on with.
func (l *loop) write(e *errand, some []byte) {
	n := writeSome(int(e.caller.fd), some)
	if n == len(some) {
		return
	}
	e.at = landed
	c, s := e.caller, e.callee
	l.forget(c)
	l.forgetCallee(s)
	rest := bytes.Clone(some[n:])
	l.p.asks.Go(func() { e.land(c, s, rest) })
}

// done ends an errand whose response has been passed on.
func (l *loop) done(e *errand, reusable bool, buffer []byte) {
	c, s := e.caller, e.callee
	l.finish(e)
	c.errand, c.since = nil, time.Now()
	if s.errand = nil; reusable {
		l.keep(s, c.since)
	} else {
		l.drop(s)
	}
	switch {
	case l.shut:
		l.hangUp(c)
	case c.events != 0:
		l.called(c, c.events, buffer)
	}
}

func (l *loop) finish(e *errand) {
	e.at = returned
	l.p.activity.leave(&e.ps)
	l.p.gate.leave()
}

// abandon ends an errand and its connections, by force.
func (l *loop) abandon(e *errand) {
	if !e.begun {
		l.p.metrics.Abandoned()
	}
	l.hangUp(e.caller)
	if e.callee != nil {
		l.drop(e.callee)
	}
	if e.cancel != nil {
		e.cancel()
	}
	l.finish(e)
}

// abort abandons an errand wherever it is. It says false when it is to be ended as other passages are.
func (e *errand) abort() bool {
	e.l.mu.Lock()
	defer e.l.mu.Unlock()
	switch e.at {
	case inLoop:
		e.l.abandon(e)
	case handedOn, landed:
		return false
	case returned:
	}
	return true
}

// forget has the loop forget a caller, whose socket is whoever's it is given to.
func (l *loop) forget(c *caller) {
	delete(l.callers, c.fd)
	_ = l.control(unix.EPOLL_CTL_DEL, c.fd)
}

func (l *loop) forgetCallee(s *callee) {
	delete(l.callees, s.fd)
	_ = l.control(unix.EPOLL_CTL_DEL, s.fd)
}

// hangUp closes a client's connection.
func (l *loop) hangUp(c *caller) {
	l.forget(c)
	_ = unix.Close(int(c.fd))
	l.p.clients.Add(-1)
	l.p.door.gone(c.client)
}

func (l *loop) date(now time.Time) string {
	if now.Unix() != l.dated {
		l.dated, l.dateText = now.Unix(), now.UTC().Format(http.TimeFormat)
	}
	return l.dateText
}
