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
	// resting are ports at rest, which other agents are to leave alone too, and rested are they
	// in the order in which their rest ends.
	resting map[int]claim
	rested  []rested
}

type rested struct {
	port int
	at   time.Time
}

func newPorts(host string, rest time.Duration) *ports {
	return &ports{host: host, rest: rest, inUse: map[int]claim{}, resting: map[int]claim{}}
}

// errTaken says that another agent has claimed a port.
var errTaken = errors.New("another agent has it")

// take reserves a port that nobody listens on now, nor any other agent of this machine
// has reserved. It stays reserved until release.
func (p *ports) take() (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	const count = lastPort - firstPort + 1
	p.wake()
	start := rand.IntN(count) //nolint:gosec // to be spread is enough
	for n := range count {
		port := firstPort + (start+n)%count
		if _, taken := p.inUse[port]; taken {
			continue
		}
		if _, rests := p.resting[port]; rests {
			continue
		}
		if ok, err := p.reserve(port); err != nil || ok {
			return port, err
		}
	}
	return 0, fmt.Errorf("find a free port on %s: all from %d to %d are in use, or rest for %s after their backend has ended; try again, or on another drone", p.host, firstPort, lastPort, p.rest)
}

// wake gives up the claims of ports that have rested. It is called with the mutex held.
func (p *ports) wake() {
	n := 0
	for now := time.Now(); n < len(p.rested) && !now.Before(p.rested[n].at); n++ {
		port := p.rested[n].port
		p.resting[port].release()
		delete(p.resting, port)
	}
	p.rested = p.rested[n:] // append moves what is left when it has run out of room
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
	p.wake()
	if !used || len(p.resting) >= maxRestingClaims {
		claimed.release()
		claimed = unclaimed
	}
	if used {
		p.resting[port] = claimed
		p.rested = append(p.rested, rested{port, time.Now().Add(p.rest)})
	}
}

// close gives up all claims; what still runs listens by now.
func (p *ports) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, claimed := range p.inUse {
		claimed.release()
	}
	for _, claimed := range p.resting {
		claimed.release()
	}
	clear(p.inUse)
	clear(p.resting)
	p.rested = nil
}

func (p *ports) address(port int) string {
	return net.JoinHostPort(p.host, strconv.Itoa(port))
}
