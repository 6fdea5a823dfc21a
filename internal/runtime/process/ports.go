package process

import (
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"
)

// portTries bounds the search for a port that is neither in use nor at rest.
const portTries = 64

// ports gives out free ports of one host. It holds at most 65,535 entries.
type ports struct {
	host string
	rest time.Duration

	mu     sync.Mutex
	inUse  map[int]struct{}
	freeAt map[int]time.Time // ports at rest, and until when
}

func newPorts(host string, rest time.Duration) *ports {
	return &ports{host: host, rest: rest, inUse: map[int]struct{}{}, freeAt: map[int]time.Time{}}
}

// take reserves a port that nobody listens on now. It stays reserved until release.
func (p *ports) take() (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var held []net.Listener // keeps the kernel from offering the same port again
	defer func() {
		for _, listener := range held {
			listener.Close()
		}
	}()
	resting := 0
	for range portTries {
		listener, err := net.Listen("tcp", net.JoinHostPort(p.host, "0"))
		if err != nil {
			return 0, fmt.Errorf("find a free port on %s: %w", p.host, err)
		}
		held = append(held, listener)
		port := listener.Addr().(*net.TCPAddr).Port
		if _, taken := p.inUse[port]; taken {
			continue // its backend does not listen yet
		}
		if until, rests := p.freeAt[port]; rests && time.Now().Before(until) {
			resting = port
			continue
		}
		return p.reserve(port), nil
	}
	if resting != 0 { // better a port that rested briefly than no backend
		return p.reserve(resting), nil
	}
	return 0, fmt.Errorf("find a free port on %s: %d tries gave only ports in use", p.host, portTries)
}

// reserve is called with the mutex held.
func (p *ports) reserve(port int) int {
	delete(p.freeAt, port)
	p.inUse[port] = struct{}{}
	return port
}

// setAside lets a port rest that a process uses which is not known yet.
func (p *ports) setAside(port int) { p.release(port, true) }

// use notes that an instance has the port already.
func (p *ports) use(port int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reserve(port)
}

// release lets a port rest, or with used unset, be given out again at once.
func (p *ports) release(port int, used bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.inUse, port)
	if used {
		p.freeAt[port] = time.Now().Add(p.rest)
	}
}

func (p *ports) address(port int) string {
	return net.JoinHostPort(p.host, strconv.Itoa(port))
}
