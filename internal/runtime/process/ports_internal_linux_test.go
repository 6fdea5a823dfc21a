package process

import (
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/testkit"
)

// Until a backend listens nothing but the agents themselves keeps its port free: they
// keep off each other's, and off those that the system gives to others.
//
// It runs alone: a process that another test forks has this one's sockets too until its exec, and keeps the port from being free.
func TestPortOfOneAgentIsNoOthers(t *testing.T) {
	ours, theirs := newPorts("127.0.0.1", time.Hour), newPorts("127.0.0.1", time.Hour)
	defer ours.close()
	defer theirs.close()
	try := func(p *ports, port int, want bool, why string) {
		t.Helper()
		p.mu.Lock()
		defer p.mu.Unlock()
		if ok, err := p.reserve(port); err != nil || ok != want {
			t.Errorf("%s: reserved %t, %v", why, ok, err)
		}
	}
	port, err := ours.take()
	if err != nil || port < firstPort || port > lastPort {
		t.Fatalf("got %d, %v", port, err)
	}
	try(theirs, port, false, "it is ours, and nobody listens yet")
	listener, err := net.Listen("tcp", ours.address(port))
	if err != nil {
		t.Fatal(err)
	}
	ours.release(port, true)
	try(theirs, port, false, "somebody listens")
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	try(theirs, port, false, "it rests")
	ours.close()
	try(theirs, port, true, "it is free")
	try(ours, port, false, "it is theirs")
	theirs.close()
	try(ours, port, true, "they have gone")
}

// The agent looks whether a port is free by listening on it. What it starts at the same moment, for another backend,
// must not have that socket, or the backend that the port is for is told that somebody listens there.
func TestPortIsFreeWhileOthersStart(t *testing.T) {
	t.Parallel()
	p := newPorts("127.0.0.1", time.Nanosecond)
	defer p.close()
	stop := make(chan struct{})
	var starts sync.WaitGroup
	defer starts.Wait()
	defer close(stop)
	for range 4 {
		starts.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := exec.Command("/bin/true").Run(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range testkit.Sized(t, 300, 3000) {
		port, err := p.take()
		if err != nil {
			t.Fatal(err)
		}
		listener, err := net.Listen("tcp", p.address(port))
		if err != nil {
			t.Fatal(err)
		}
		if err := listener.Close(); err != nil {
			t.Fatal(err)
		}
		p.release(port, false)
	}
}

// A port rests for its full time, also when there is no other.
func TestPortThatRestsIsGivenToNobody(t *testing.T) {
	t.Parallel()
	p := newPorts("127.0.0.1", time.Hour)
	defer p.close()
	for port := firstPort; port <= lastPort; port++ {
		p.release(port, true)
	}
	if port, err := p.take(); err == nil || !strings.Contains(err.Error(), "or rest for 1h0m0s") {
		t.Fatalf("got %d, %v", port, err)
	}
	const many = 500 // some of them others on this machine may have
	for n := range many {
		p.rested[n].at = time.Now()
	}
	if port, err := p.take(); err != nil || port >= firstPort+many {
		t.Fatalf("got %d, %v", port, err)
	}
}
