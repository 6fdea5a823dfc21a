package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	// maxConns are open at a time, and maxConnsEach of one network of clients.
	maxConns     = 128
	maxConnsEach = 8
	// maxQueries are answered on one connection.
	maxQueries = 16
	// tcpTimeout is how long a client may take for a query, or to take its reply; in tests
	// it may be less, or more.
	tcpTimeout = 5 * time.Second
)

// serveTCP answers connections until the listener is closed, and waits for them.
func (s *Server) serveTCP(ctx context.Context) {
	conns := &connections{open: make(map[net.Conn]netip.Prefix), each: make(map[netip.Prefix]int)}
	var serving sync.WaitGroup
	defer serving.Wait()
	defer conns.close()
	for {
		conn, err := s.tcp.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			s.log.DebugContext(ctx, "cannot accept a connection", "err", err)
			if !pause(ctx) {
				return
			}
			continue
		}
		from, ok := conns.add(conn)
		if !ok {
			_ = conn.Close()
			continue
		}
		serving.Go(func() {
			defer conns.remove(conn)
			s.serveConn(conn, from)
		})
	}
}

// serveConn answers the queries of one connection, one after the other.
func (s *Server) serveConn(conn net.Conn, from netip.Addr) {
	buffer := make([]byte, 2+maxQuery)
	for range maxQueries {
		_ = conn.SetDeadline(time.Now().Add(s.patience))
		if _, err := io.ReadFull(conn, buffer[:2]); err != nil {
			return
		}
		size := int(binary.BigEndian.Uint16(buffer))
		if size > maxQuery || !s.limit.allow(from) {
			return
		}
		if _, err := io.ReadFull(conn, buffer[2:2+size]); err != nil {
			return
		}
		reply := s.zones.answer(buffer[2:2+size], byTCP)
		if reply == nil {
			return
		}
		// In one write: some clients read it with one read.
		reply = append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...)
		if _, err := conn.Write(reply); err != nil {
			return
		}
	}
}

// connections are those that are open, bounded in all and for each network.
type connections struct {
	mu     sync.Mutex
	open   map[net.Conn]netip.Prefix
	each   map[netip.Prefix]int
	closed bool
}

func (c *connections) add(conn net.Conn) (netip.Addr, bool) {
	addr, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}, false
	}
	from := network(addr.Addr())
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.open) >= maxConns || c.each[from] >= maxConnsEach {
		return netip.Addr{}, false
	}
	c.open[conn] = from
	c.each[from]++
	return addr.Addr(), true
}

func (c *connections) remove(conn net.Conn) {
	_ = conn.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	from := c.open[conn]
	delete(c.open, conn)
	if c.each[from]--; c.each[from] <= 0 {
		delete(c.each, from)
	}
}

// close ends all of them.
func (c *connections) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for conn := range c.open {
		_ = conn.Close()
	}
}
