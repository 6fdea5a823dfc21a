package identity

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jetway-project/jetway/internal/procs"
)

const (
	// namePatience is how long a name is tried: a process that an earlier agent was just
	// starting has its socket for the moment until it runs.
	namePatience = 500 * time.Millisecond
	// tellPatience is how long the one who has the name may take to say who it is; it may be
	// stopped.
	tellPatience = time.Second
	// maxTold is longer than a path.
	maxTold = 8 << 10
)

// nameLock holds a name, and tells whoever wants it who has it.
type nameLock struct {
	listener *net.UnixListener
	told     sync.WaitGroup
}

// takeName takes a drone's name on this machine.
func takeName(name, dataDir string) (io.Closer, error) {
	address := &net.UnixAddr{Net: "unix", Name: "@jetway-drone-" + name}
	again := time.NewTicker(namePatience / 20)
	defer again.Stop()
	for began := time.Now(); ; <-again.C {
		listener, err := net.ListenUnix("unix", address)
		if err == nil {
			l := &nameLock{listener: listener}
			l.told.Go(func() { l.tell(dataDir) })
			return l, nil
		}
		if !errors.Is(err, unix.EADDRINUSE) {
			return nil, err
		}
		if time.Since(began) > namePatience {
			return nil, fmt.Errorf("%w: %s; two drones of one name would end each other's backends: give one of them another name, or end that process",
				ErrNameTaken, holderOf(address))
		}
	}
}

// tell tells one after the other.
func (l *nameLock) tell(dataDir string) {
	for {
		conn, err := l.listener.AcceptUnix()
		if err != nil {
			return // closed
		}
		_ = conn.SetWriteDeadline(time.Now().Add(tellPatience))
		_, _ = io.WriteString(conn, dataDir)
		_ = conn.Close()
	}
}

// Close gives the name back.
func (l *nameLock) Close() error {
	err := l.listener.Close()
	l.told.Wait()
	return err
}

// holderOf says who has a name.
func holderOf(address *net.UnixAddr) string {
	conn, err := net.DialTimeout("unix", address.Name, tellPatience)
	if err != nil {
		return "a process that does not say who it is"
	}
	defer conn.Close()
	dir := ""
	if conn.SetReadDeadline(time.Now().Add(tellPatience)) == nil {
		raw, _ := io.ReadAll(io.LimitReader(conn, maxTold))
		dir = string(raw)
	}
	who := "a process in another PID namespace"
	if pid := procs.PeerOf(conn); pid != 0 {
		who = fmt.Sprintf("process %d", pid)
	}
	if dir == "" {
		return who + ", which does not answer (it may be stopped)"
	}
	return fmt.Sprintf("%s, with the data directory %q", who, dir)
}
