package proxy

import (
	"bufio"
	"bytes"
	"net"
	"net/http"
	"strings"
)

// switchProtocols lets the upgraded connection go on by itself: from here on bytes
// pass unchanged, both ways, until both sides have ended or one failed.
// The goroutine of the request ends, and with it goes what the HTTP server held for it.
func (x *exchange) switchProtocols() error {
	if x.v.tunnel != nil {
		return x.openTunnel()
	}
	client, rw, err := x.ps.control.Hijack()
	if err != nil {
		return err
	}
	leave := x.p.door.leaver(client)
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
	early, late, err := x.answerSwitch(client, rw.Reader)
	if err != nil {
		_ = client.Close()
		return err
	}
	x.answered()
	s := x.newUpgrade(plain(client), early, late)
	gate := x.p.gate
	gate.stay()       // the handler leaves
	s.left = func() { // and holds nothing of the exchange: what is idle is to cost little
		leave()
		gate.leave()
	}
	s.begin()
	return nil
}

// newUpgrade makes the splice that goes on with the exchange's connections. early is what the client has said already, late what the backend has.
func (x *exchange) newUpgrade(client net.Conn, early, late []byte) *splice {
	s := newSplice(x.p, x.ps, client, x.conn.Conn)
	if strings.EqualFold(x.resp.Header.Get("Upgrade"), "websocket") {
		// A backend's pings do not keep it awake, nor do the answers to them. Those of the client do: he waits for an answer.
		s.down.frames = &frames{mute: 1<<opcodePing | 1<<opcodePong}
		s.down.frames.pass(late)
		if x.ps.pulse != nil {
			s.up.frames = &frames{mute: 1 << opcodePong}
			s.up.frames.pass(early)
		}
	}
	x.conn.doneReading() // late is no more
	if s.p.cfg.AccessLog {
		s.visit, s.line = x.v, x.v.line(x.p)
		s.visit.w, s.visit.r = nil, nil // they hold much
	}
	x.v.handedOn = true
	return s
}

// answerSwitch writes the response with which the protocol changes, and what either
// side has already said in the new one: early is what the client has, late the backend.
func (x *exchange) answerSwitch(client net.Conn, from *bufio.Reader) (early, late []byte, err error) {
	h := make(http.Header, len(x.resp.Header)+8)
	x.out.answerFields(h, x.resp.Header)
	h.Set("Connection", "Upgrade")
	h["Upgrade"] = x.resp.Header["Upgrade"]

	var answer bytes.Buffer
	answer.WriteString("HTTP/1.1 101 Switching Protocols\r\n")
	_ = h.Write(&answer)
	answer.WriteString("\r\n")
	late, err = x.conn.in.Peek(x.conn.in.Buffered())
	if err != nil {
		return nil, nil, err
	}
	answer.Write(late)
	if _, err := client.Write(answer.Bytes()); err != nil {
		return nil, nil, err
	}
	early, err = from.Peek(from.Buffered())
	if err != nil || len(early) == 0 {
		return nil, late, err
	}
	_, err = x.conn.Conn.Write(early)
	return early, late, err
}
