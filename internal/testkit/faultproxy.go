package testkit

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// FaultProxy is a TCP link to a server that fails on demand: between a test's
// subject and its database or bus. It starts whole. The test's cleanup closes it
// and waits for all that it started.
type FaultProxy struct {
	network  string
	listener net.Listener
	running  sync.WaitGroup // the accept loop and all links

	mu           sync.Mutex
	target       string
	cut, stalled bool
	delay        time.Duration
	changed      chan struct{} // closed and replaced with every change of a fault
	links        map[*link]struct{}
}

// link is one connection through the proxy.
type link struct {
	// ctx ends when the link is to end.
	ctx    context.Context
	cancel context.CancelFunc
	client net.Conn
	server net.Conn // nil until it is dialed; guarded by FaultProxy.mu
}

// chunk is what was read at once from one side: data, then perhaps its end.
type chunk struct {
	data []byte
	err  error
	at   time.Time
}

const (
	chunkSize = 32 << 10
	// inFlight chunks per direction are read ahead of a delay or a stall; beyond
	// that the sender feels back-pressure.
	inFlight = 64
)

// NewFaultProxy listens on a free port of 127.0.0.1 and leads to target, a
// host:port or the path of a Unix socket.
func NewFaultProxy(t testing.TB, target string) *FaultProxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal("start a fault proxy: ", err)
	}
	p := &FaultProxy{
		network: "tcp", target: target, listener: listener,
		changed: make(chan struct{}), links: map[*link]struct{}{},
	}
	if strings.HasPrefix(target, "/") {
		p.network = "unix"
	}
	p.running.Go(p.accept)
	t.Cleanup(func() {
		_ = listener.Close()
		p.Cut()
		p.running.Wait()
	})
	return p
}

// Addr is the host:port where the proxy listens. It stays the same whatever fails.
func (p *FaultProxy) Addr() string { return p.listener.Addr().String() }

// Cut resets all connections, and every new one as soon as it is made, until [FaultProxy.Heal].
func (p *FaultProxy) Cut() {
	p.fault(func() {
		p.cut, p.stalled = true, false
		for l := range p.links {
			l.reset()
		}
	})
}

// Stall keeps connections open, old ones and new ones, but lets nothing through,
// not even their end, until [FaultProxy.Heal], which lets through what waited, or
// [FaultProxy.Cut].
func (p *FaultProxy) Stall() { p.fault(func() { p.cut, p.stalled = false, true }) }

// Delay adds d to the way of every byte, in each direction.
func (p *FaultProxy) Delay(d time.Duration) { p.fault(func() { p.delay = d }) }

// Heal makes the link whole: it undoes Cut, Stall and Delay. Connections that
// were cut stay so.
func (p *FaultProxy) Heal() { p.fault(func() { p.cut, p.stalled, p.delay = false, false, 0 }) }

// Lead has new connections go to another host:port, as a virtual address that moves does. Those
// that are open stay where they are.
func (p *FaultProxy) Lead(target string) { p.fault(func() { p.target = target }) }

// fault changes the state of the link and wakes those that wait for it.
func (p *FaultProxy) fault(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *FaultProxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		l := newLink(client)
		p.mu.Lock()
		if p.cut {
			l.reset()
		} else {
			p.links[l] = struct{}{}
			p.running.Go(func() { p.serve(l) })
		}
		p.mu.Unlock()
	}
}

func newLink(client net.Conn) *link {
	ctx, cancel := context.WithCancel(context.Background())
	return &link{ctx: ctx, cancel: cancel, client: client}
}

// serve is the life of a link.
func (p *FaultProxy) serve(l *link) {
	end := (*link).reset
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		end(l)
		delete(p.links, l)
	}()
	if !p.pass(l.ctx, time.Now()) {
		return
	}
	var dialer net.Dialer
	p.mu.Lock()
	target := p.target
	p.mu.Unlock()
	server, err := dialer.DialContext(l.ctx, p.network, target)
	if err != nil {
		return
	}
	p.mu.Lock()
	l.server = server
	p.mu.Unlock()
	if l.ctx.Err() != nil {
		return
	}
	var ways sync.WaitGroup
	ways.Go(func() { p.carry(l, server, l.client) })
	ways.Go(func() { p.carry(l, l.client, server) })
	ways.Wait()
	// Unless it was reset before, both ways have come to their end: what the
	// kernel has yet to send must arrive.
	end = (*link).close
}

// carry moves bytes one way until their end.
func (p *FaultProxy) carry(l *link, dst, src net.Conn) {
	chunks := make(chan chunk, inFlight)
	var reading sync.WaitGroup
	reading.Go(func() { read(l.ctx, src, chunks) })
	defer reading.Wait()
	for c := range chunks {
		if !p.pass(l.ctx, c.at) {
			return
		}
		_, err := dst.Write(c.data)
		if errors.Is(c.err, io.EOF) && err == nil {
			// The other way may still be in use.
			err = dst.(interface{ CloseWrite() error }).CloseWrite()
		} else if err == nil {
			err = c.err
		}
		if err != nil {
			p.mu.Lock()
			l.reset()
			p.mu.Unlock()
			return
		}
	}
}

// read queues what comes from src until its end, which it queues too.
func read(ctx context.Context, src net.Conn, chunks chan<- chunk) {
	defer close(chunks)
	for {
		buf := make([]byte, chunkSize)
		n, err := src.Read(buf)
		select {
		case chunks <- chunk{data: buf[:n], err: err, at: time.Now()}:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// pass waits until what came at a time may go on. It is false when the link is to end.
func (p *FaultProxy) pass(ctx context.Context, at time.Time) bool {
	for {
		p.mu.Lock()
		stalled, delay, changed := p.stalled, p.delay, p.changed
		p.mu.Unlock()
		left := time.Until(at.Add(delay))
		if !stalled && left <= 0 {
			return ctx.Err() == nil
		}
		var due <-chan time.Time
		if !stalled {
			due = time.After(left)
		}
		select {
		case <-due:
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// reset ends a link the hard way: what is in flight is lost. It may be called
// again, and with FaultProxy.mu held once the link is known to the proxy.
func (l *link) reset() {
	for _, conn := range []net.Conn{l.client, l.server} {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
	}
	l.close()
}

// close ends a link softly.
func (l *link) close() {
	l.cancel()
	for _, conn := range []net.Conn{l.client, l.server} {
		if conn != nil {
			_ = conn.Close()
		}
	}
}
