package proxy

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// door is the listener that clients come through. One client has a part of the connections at most, so that nobody
// keeps the others out; proxies that are trusted come for many, and have no bound. What has no number left, or no
// place, is said.
type door struct {
	net.Listener
	p *Proxy

	mu   sync.Mutex
	of   map[netip.Addr]int
	said time.Time // when it was last said that somebody was not let in
}

// leastConnections is how many one client may have at least.
const leastConnections = 16

// descriptors is how many files and sockets this process may have open.
func descriptors() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 1024
	}
	return int(min(limit.Cur, 1<<20))
}

// Accept gives the next connection that no loop takes.
func (d *door) Accept() (net.Conn, error) {
	for {
		conn, err := d.Listener.Accept()
		if err != nil {
			d.p.sayFull(err) // the HTTP server tries again
			return nil, err
		}
		peer := addrOf(conn.RemoteAddr())
		if d.p.trusts(peer) {
			return &spoken{Conn: conn, patience: d.p.cfg.waits.head}, nil
		}
		if !d.enter(group(peer)) {
			_ = conn.Close()
			continue
		}
		if !d.p.admit(conn, peer) {
			return conn, nil
		}
	}
}

func (d *door) enter(client netip.Addr) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.of[client] < d.p.cfg.MaxClientConnections {
		d.of[client]++
		return true
	}
	if now := time.Now(); now.Sub(d.said) > time.Second {
		d.said = now
		d.p.log.Warn("a client has all the connections that one may have, and is given no more; if it is a proxy, trust it: --trusted-proxies",
			"client", client, "limit", d.p.cfg.MaxClientConnections)
	}
	return false
}

// leave takes in that a connection is closed.
func (d *door) leave(conn net.Conn) { d.leaver(conn)() }

// leaver is leave for later, once. It holds nothing of the connection: what is idle is to cost little.
func (d *door) leaver(conn net.Conn) func() {
	conn = underTLS(conn)
	if _, ok := conn.(*spoken); ok {
		return func() {}
	}
	client := group(addrOf(conn.RemoteAddr()))
	return sync.OnceFunc(func() { d.gone(client) })
}

// gone is leave for who knows whose connection it was.
func (d *door) gone(client netip.Addr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.of[client]--; d.of[client] <= 0 {
		delete(d.of, client)
	}
}

// sayFull says that there are no numbers for sockets left, once a second.
func (p *Proxy) sayFull(err error) {
	if !noneLeft(err) {
		return
	}
	if last, now := p.fullSaid.Load(), time.Now().UnixNano(); now-last > int64(time.Second) && p.fullSaid.CompareAndSwap(last, now) {
		p.log.Warn("no file descriptors are left, so clients wait or are refused: raise the limit (LimitNOFILE= of the unit, ulimit -n), or run more proxies",
			"limit", descriptors(), "clients", p.clients.Load(), "upgraded", p.upgrades.Load(), "err", err)
	}
}

func noneLeft(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

func addrOf(addr net.Addr) netip.Addr {
	if tcp, ok := addr.(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap().WithZone("")
	}
	at, _ := netip.ParseAddrPort(addr.String())
	return at.Addr().Unmap().WithZone("")
}

// group gives the address by which a client is counted: of IPv6 the /64 that one customer has.
func group(addr netip.Addr) netip.Addr {
	if addr.Is6() {
		if net, err := addr.Prefix(64); err == nil {
			return net.Addr()
		}
	}
	return addr
}
