package process

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	goruntime "runtime"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// The ports that are given out are below those that systems give to whoever asks for
// any, from 32768 on Linux and from 49152 on macOS: some time passes until a process
// listens, and one that got its port meanwhile would be taken for it.
const (
	firstPort = 20000
	lastPort  = 32767
)

// maxRestingClaims bounds the claims, a descriptor each, that are kept of ports at rest.
const maxRestingClaims = 2048

// ports gives out free ports of one host. It holds at most as many entries as there are.
type ports struct {
	host string
	rest time.Duration

	mu    sync.Mutex
	inUse map[int]claim
	// resting are ports at rest, which other agents are to leave alone too.
	resting map[int]resting
}

type resting struct {
	claim claim
	until time.Time
}

func newPorts(host string, rest time.Duration) *ports {
	return &ports{host: host, rest: rest, inUse: map[int]claim{}, resting: map[int]resting{}}
}

// errTaken says that another agent has claimed a port.
var errTaken = errors.New("another agent has it")

// take reserves a port that nobody listens on now, nor any other agent of this machine
// has reserved. It stays reserved until release.
func (p *ports) take() (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	const count = lastPort - firstPort + 1
	start, now := rand.IntN(count), time.Now() //nolint:gosec // to be spread is enough
	for n := range count {
		port := firstPort + (start+n)%count
		if _, taken := p.inUse[port]; taken {
			continue
		}
		if r, rests := p.resting[port]; rests {
			if now.Before(r.until) {
				continue
			}
			r.claim.release()
			delete(p.resting, port)
		}
		if ok, err := p.reserve(port); err != nil || ok {
			return port, err
		}
	}
	return 0, fmt.Errorf("find a free port on %s: all from %d to %d are in use, or rest for %s after their backend has ended; try again, or on another drone", p.host, firstPort, lastPort, p.rest)
}

// reserve reserves a port unless somebody else has it. It is called with the mutex held.
func (p *ports) reserve(port int) (ok bool, err error) {
	claimed, err := claimPort(p.address(port))
	if errors.Is(err, errTaken) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reserve the port %d on %s: %w", port, p.host, err)
	}
	err = tryListen(p.address(port))
	switch {
	case errors.Is(err, syscall.EADDRINUSE), errors.Is(err, syscall.EACCES):
		claimed.release()
		return false, nil
	case err != nil:
		claimed.release()
		return false, fmt.Errorf("find a free port on %s: %w", p.host, err)
	}
	p.inUse[port] = claimed
	return true, nil
}

// tryListen says why nobody can listen on an address now. No process may be forked meanwhile: until its exec it would
// hold the socket, and so keep the port from the backend that it is for. (Only Linux lets a listener be made under this lock.)
func tryListen(address string) error {
	if goruntime.GOOS == "linux" {
		syscall.ForkLock.RLock()
		defer syscall.ForkLock.RUnlock()
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	return listener.Close()
}

// use notes that an instance has the port already, and listens there or soon will.
func (p *ports) use(port int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	claimed, err := claimPort(p.address(port))
	if err != nil {
		claimed = unclaimed
	}
	p.inUse[port] = claimed
}

// release lets a port rest, or with used unset, be given out again at once.
func (p *ports) release(port int, used bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	claimed, ok := p.inUse[port]
	if !ok {
		claimed = unclaimed
	}
	delete(p.inUse, port)
	if !used || len(p.resting) >= maxRestingClaims {
		claimed.release()
		claimed = unclaimed
	}
	if used {
		p.resting[port] = resting{claim: claimed, until: time.Now().Add(p.rest)}
	}
}

// close gives up all claims; what still runs listens by now.
func (p *ports) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, claimed := range p.inUse {
		claimed.release()
	}
	for _, r := range p.resting {
		r.claim.release()
	}
	clear(p.inUse)
	clear(p.resting)
}

func (p *ports) address(port int) string {
	return net.JoinHostPort(p.host, strconv.Itoa(port))
}
