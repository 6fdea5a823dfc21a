package proxy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// spoken is a connection from a proxy that is trusted: it may begin with who is connected to that, in the
// PROXY protocol, version 1 or 2, or with the client's own bytes. No HTTP request and no TLS handshake begins as the protocol does.
type spoken struct {
	net.Conn
	patience time.Duration

	once   sync.Once
	client net.Addr // nil: who connected
	early  []byte   // read, and not of the protocol
	failed error
}

var (
	errSpoken  = errors.New("a malformed head of the PROXY protocol")
	signature1 = []byte("PROXY ")
	signature2 = []byte("\r\n\r\n\x00\r\nQUIT\n")
)

const (
	longestSpoken1 = 107  // by the protocol
	longestSpoken2 = 4096 // addresses and what else may be told
)

// RemoteAddr gives who is at the other end of the proxy. It waits for the head.
func (s *spoken) RemoteAddr() net.Addr {
	if s.once.Do(s.listen); s.client != nil {
		return s.client
	}
	return s.Conn.RemoteAddr()
}

// Read reads what comes after the head.
func (s *spoken) Read(p []byte) (int, error) {
	s.once.Do(s.listen)
	switch {
	case s.failed != nil:
		return 0, s.failed
	case len(s.early) > 0:
		n := copy(p, s.early)
		s.early = s.early[n:]
		return n, nil
	}
	return s.Conn.Read(p)
}

// listen reads the head, if there is one: never more than it, so that the rest is the connection's own.
func (s *spoken) listen() {
	_ = s.SetReadDeadline(time.Now().Add(s.patience))
	defer func() { _ = s.SetReadDeadline(time.Time{}) }()
	var head []byte
	for {
		var one [1]byte
		if _, err := io.ReadFull(s.Conn, one[:]); err != nil {
			s.failed = err
			return
		}
		head = append(head, one[0])
		switch {
		case bytes.Equal(head, signature1):
			s.client, s.failed = s.version1()
			return
		case bytes.Equal(head, signature2):
			s.client, s.failed = s.version2()
			return
		case !bytes.HasPrefix(signature1, head) && !bytes.HasPrefix(signature2, head):
			s.early = head
			return
		}
	}
}

// version1 reads a line such as "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443".
func (s *spoken) version1() (net.Addr, error) {
	var line []byte
	for !bytes.HasSuffix(line, []byte("\r\n")) {
		var one [1]byte
		if len(line)+len(signature1) == longestSpoken1 {
			return nil, errSpoken
		}
		if _, err := io.ReadFull(s.Conn, one[:]); err != nil {
			return nil, err
		}
		line = append(line, one[0])
	}
	words := strings.Split(strings.TrimSuffix(string(line), "\r\n"), " ")
	if words[0] == "UNKNOWN" {
		return nil, nil
	}
	if len(words) != 5 || words[0] != "TCP4" && words[0] != "TCP6" {
		return nil, errSpoken
	}
	at, err := netip.ParseAddrPort(net.JoinHostPort(words[1], words[3]))
	if err != nil || at.Addr().Is4() != (words[0] == "TCP4") {
		return nil, errSpoken
	}
	return net.TCPAddrFromAddrPort(at), nil
}

// version2 reads what follows the signature.
func (s *spoken) version2() (net.Addr, error) {
	var fixed [4]byte
	if _, err := io.ReadFull(s.Conn, fixed[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint16(fixed[2:])
	if fixed[0]>>4 != 2 || size > longestSpoken2 {
		return nil, errSpoken
	}
	rest := make([]byte, size)
	if _, err := io.ReadFull(s.Conn, rest); err != nil {
		return nil, err
	}
	const local, proxied = 0, 1
	switch fixed[0] & 15 {
	case local: // it speaks for itself, as checks do
		return nil, nil
	case proxied:
	default:
		return nil, errSpoken
	}
	const tcp4, tcp6 = 0x11, 0x21
	length := map[byte]int{tcp4: 4, tcp6: 16}[fixed[1]]
	if length == 0 {
		return nil, nil // a family without addresses
	}
	if len(rest) < 2*length+4 {
		return nil, errSpoken
	}
	addr, _ := netip.AddrFromSlice(rest[:length])
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr, binary.BigEndian.Uint16(rest[2*length:]))), nil
}

// plain gives the connection itself once nothing is left that was read before.
func plain(conn net.Conn) net.Conn {
	if s, ok := conn.(*spoken); ok && len(s.early) == 0 && s.failed == nil {
		return s.Conn
	}
	if h, ok := conn.(*handed); ok && len(h.early) == 0 {
		return h.Conn
	}
	return conn
}
