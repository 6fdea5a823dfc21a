package proxy

import (
	"net"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// spare gives an idle connection to a backend, nil if the loop has none.
func (l *loop) spare(to place) *callee {
	list := l.idle[to]
	if len(list) == 0 {
		return nil
	}
	s := list[len(list)-1]
	l.unlist(s)
	s.reused = true
	return s
}

// keep keeps a connection for the next request.
func (l *loop) keep(s *callee, now time.Time) {
	list := l.idle[s.to]
	if n := len(l.p.loops); l.shut || l.idleCount >= idleConns/n || len(list) >= idleConnsPerBackend/n {
		l.drop(s)
		return
	}
	s.since = now
	l.idle[s.to] = append(list, s)
	l.idleCount++
}

// unlist takes a connection out of those that are idle, if it is one.
func (l *loop) unlist(s *callee) {
	list := l.idle[s.to]
	for i, one := range slices.Backward(list) {
		if one != s {
			continue
		}
		if len(list) == 1 {
			delete(l.idle, s.to)
		} else {
			l.idle[s.to] = append(list[:i], list[i+1:]...)
		}
		l.idleCount--
		return
	}
}

// drop closes a connection to a backend.
func (l *loop) drop(s *callee) {
	l.unlist(s)
	l.forgetCallee(s)
	_ = unix.Close(int(s.fd))
}

// release gives an idle connection to a backend to whoever else needs one, nil if there is none.
func (l *loop) release(to place) net.Conn {
	l.mu.Lock()
	s := l.spare(to)
	if s != nil {
		l.forgetCallee(s)
	}
	l.mu.Unlock()
	if s == nil {
		return nil
	}
	conn, err := fileConn(s.fd, func(error) bool { return true })
	if err != nil {
		return nil
	}
	return conn
}

// sweepCallees closes what has been idle since before.
func (l *loop) sweepCallees(before time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, list := range l.idle {
		old := 0
		for old < len(list) && list[old].since.Before(before) {
			old++
		}
		for _, s := range append([]*callee(nil), list[:old]...) {
			l.drop(s)
		}
	}
}

// sweepCallers closes the connections of clients that have been idle for too long.
func (l *loop) sweepCallers(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.callers {
		limit := l.p.cfg.IdleTimeout
		if !c.used {
			limit = l.p.cfg.waits.head
		}
		if c.errand == nil && now.Sub(c.since) > limit {
			l.hangUp(c)
		}
	}
}

// clear closes the idle connections of clients, hands on the others, and lets none in any more. It returns when handlers
// have what was under way: an HTTP server that is shutting down begins with no request.
func (l *loop) clear() {
	l.mu.Lock()
	l.shut = true
	for _, c := range l.callers {
		switch e := c.errand; {
		case e == nil:
			l.hangUp(c)
		case !e.begun:
			l.handOn(c, nil, nil)
		}
	}
	l.mu.Unlock()
	l.handing.Wait()
}
