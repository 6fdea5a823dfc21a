package proxy

import (
	"bufio"
	"bytes"
	"net"
	"net/http"
	"sync"
)

// switchProtocols lets the upgraded connection go on by itself: from here on bytes
// pass unchanged, both ways, until both sides have ended or one failed.
// The goroutine of the request ends, and with it goes what the HTTP server held for it.
func (x *exchange) switchProtocols() error {
	client, rw, err := x.ps.control.Hijack()
	if err != nil {
		return err
	}
	leave := sync.OnceFunc(func() { x.p.door.leave(client) })
	defer func() {
		if !x.v.handedOn {
			leave()
		}
	}()
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
	s := newSplice(x.p, x.ps, plain(client), x.conn.Conn)
	s.left = leave
	if s.p.cfg.AccessLog {
		s.visit, s.line = x.v, x.v.line(x.p)
		s.visit.w, s.visit.r = nil, nil // they hold much
	}
	x.v.handedOn = true
	s.begin()
	return nil
}

// answerSwitch writes the response with which the protocol changes, and what either
// side has already said in the new one.
func (x *exchange) answerSwitch(client net.Conn, from *bufio.Reader) error {
	h := make(http.Header, len(x.resp.Header)+8)
	copyFields(h, x.resp.Header)
	x.out.adapt(h)
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
