package proxy

import (
	"bytes"
	"errors"
	"io"
	"net"
)

// land passes on the rest of a response to a client that takes it in slowly.
func (e *errand) land(c *caller, s *callee, rest []byte) {
	p := e.l.p
	client, err := p.regain(c.fd)
	backend, backendErr := p.regain(s.fd)
	if err = errors.Join(err, backendErr); err == nil && !e.ps.landed(client, backend) {
		err = net.ErrClosed
	}
	if err == nil {
		_, err = client.Write(rest)
	}
	if err == nil {
		_, err = io.CopyN(client, backend, int64(e.left))
	}
	e.ps.end()
	if backend != nil {
		_ = backend.Close()
	}
	p.activity.leave(&e.ps)
	p.gate.leave()
	if err != nil && client != nil {
		_ = client.Close()
		client = nil
	}
	p.handOver(client, c, nil, nil)
}

// handOn lets net/http go on with a client's connection. said is what the client, or the backend once it was asked, said last;
// failed is why there is no connection to the backend, or how reading from it failed.
func (l *loop) handOn(c *caller, said []byte, failed error) {
	l.forget(c)
	e, early := c.errand, bytes.Clone(said)
	if e == nil {
		l.handing.Go(func() {
			client, _ := l.p.regain(c.fd)
			l.p.handOver(client, c, early, nil)
		})
		return
	}
	e.at = handedOn
	if e.cancel != nil {
		e.cancel()
	}
	s := e.callee
	if s != nil {
		l.forgetCallee(s)
	}
	l.handing.Add(1)
	l.handing.Go(func() {
		b := &begun{taken: l.handing.Done, route: e.out.route, ps: &e.ps, start: e.start, added: e.added, err: failed}
		if s != nil {
			b.conn, b.err = l.p.regainBackend(s, early, failed)
		}
		client, _ := l.p.regain(c.fd)
		l.p.handOver(client, c, []byte(e.raw), b)
	})
}

// handOver gives net/http a client's connection, nil if it is lost.
func (p *Proxy) handOver(client net.Conn, c *caller, early []byte, b *begun) {
	p.clients.Add(-1) // net/http's count has it, or nobody
	if client != nil {
		p.hatch.give(newHanded(client, p, early, b))
		return
	}
	p.door.gone(c.client)
	if b != nil {
		b.taken()
		b.discard(p)
	}
}

// regain gives a socket back to Go. It has a number of its own again then: where there is none, it waits for
// one for a while.
func (p *Proxy) regain(fd int32) (net.Conn, error) {
	return fileConn(fd, func(err error) bool {
		p.sayFull(err)
		return p.draining.Load()
	})
}

// regainBackend gives a connection to a backend that was asked, and has answered early so far.
func (p *Proxy) regainBackend(s *callee, early []byte, failed error) (*backendConn, error) {
	conn, err := p.regain(s.fd)
	if err != nil {
		return nil, err
	}
	b, err := newBackendConn(conn, s.to)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	b.reused, b.asked = s.reused, true
	b.begin(early, failed)
	return b, nil
}
