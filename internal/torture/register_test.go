//go:build linux

package torture_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jetway-project/jetway/internal/testkit"
)

// life is one process of a backend, as the harness saw it.
type life struct {
	begun
	// From and To are since the beginning of the run; To is 0 while it lives. It had begun
	// at From, and had ended at To: whatever was seen after that came after it.
	From, To time.Duration
	// Writes and Stale are how often it wrote with the newest token, and without.
	Writes, Stale int
	// late says that its word that it had begun came after its end: when it lived among
	// others is not known.
	late bool
	// overlaps are those of its key that still ran when it had begun.
	overlaps []*life
	// pidfd is by which the kernel says that it has ended; -1 when it is closed.
	pidfd int
}

func (l *life) key() keyName { return keyName{l.Namespace, l.Key} }

// keyName is a key without its tag.
type keyName struct{ namespace, name string }

func (k keyName) String() string {
	if k.namespace == "" {
		return k.name
	}
	return k.namespace + "/" + k.name
}

// register is the resource that the backends of a key share: it takes a write with the
// newest fencing token only. It also watches each process from when it says that it
// has begun until the kernel says that it has ended.
type register struct {
	path  string // of its socket
	start time.Time

	mu     sync.Mutex
	lives  []*life
	byID   map[string]*life
	newest map[keyName]int64
	// wrong is what no check has to find: it was seen at once.
	wrong []string
	// ended is signalled with every end.
	ended *sync.Cond
	alive int
}

func startRegister(t *testing.T, start time.Time) *register {
	t.Helper()
	path := filepath.Join(socketDir(t), "register")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	r := &register{path: path, start: start, byID: map[string]*life{}, newest: map[keyName]int64{}}
	r.ended = sync.NewCond(&r.mu)
	mux := http.NewServeMux()
	mux.HandleFunc("/begun", r.handle(r.begin))
	mux.HandleFunc("/write", r.handle(r.write))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: testkit.Patience, ConnContext: withPeer}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) })
	t.Cleanup(func() {
		_ = server.Close()
		serving.Wait()
	})
	return r
}

// socketDir is one whose name is short: those of sockets have to be.
func socketDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "torture")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func (r *register) handle(do func(begun)) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		var b begun
		if err := json.NewDecoder(req.Body).Decode(&b); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		b.PID, _ = req.Context().Value(peerKey{}).(int)
		do(b)
	}
}

type peerKey struct{}

// withPeer has requests know which process made their connection, by its number here.
func withPeer(ctx context.Context, conn net.Conn) context.Context {
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return ctx
	}
	var peer *unix.Ucred
	err = raw.Control(func(fd uintptr) {
		peer, _ = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err != nil || peer == nil {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, int(peer.Pid))
}

func (r *register) begin(b begun) {
	pidfd, err := unix.PidfdOpen(b.PID, 0)
	r.mu.Lock()
	defer r.mu.Unlock()
	// It has begun: who runs now runs beside it, however late that is looked at.
	r.look()
	now := time.Since(r.start)
	l := &life{begun: b, From: now, pidfd: pidfd, late: err != nil || ended(pidfd)}
	for _, other := range r.lives {
		if other.To == 0 && other.key() == l.key() && !l.late {
			l.overlaps = append(l.overlaps, other)
		}
	}
	// A spare that did not answer its claim in time is dead before the backend that it was to be is started.
	if before := r.byID[b.BackendID]; before != nil && (!before.Claimed || before.To == 0) {
		r.wrong = append(r.wrong, fmt.Sprintf("I3: backend %s was started twice: process %d from %s to %s, process %d from %s",
			b.BackendID, before.PID, before.From, before.To, b.PID, now))
	}
	r.lives, r.byID[b.BackendID] = append(r.lives, l), l
	if err != nil {
		l.To, l.pidfd = now, -1
		return
	}
	r.alive++
	go r.watch(l)
}

// sync takes note of all that has ended by now, so that what is seen from now on is known
// to come after that. The watching of each process may be late on a machine that is busy.
func (r *register) sync() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.look()
}

// ended says whether a process has ended.
func ended(pidfd int) bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, 0)
	return err == nil && n > 0
}

func (r *register) look() {
	var fds []unix.PollFd
	var alive []*life
	for _, l := range r.lives {
		if l.To == 0 && l.pidfd >= 0 {
			fds, alive = append(fds, unix.PollFd{Fd: int32(l.pidfd), Events: unix.POLLIN}), append(alive, l)
		}
	}
	if n, err := unix.Poll(fds, 0); n <= 0 || err != nil {
		return
	}
	now := time.Since(r.start)
	for i, fd := range fds {
		if fd.Revents != 0 {
			alive[i].To = now
		}
	}
}

// watch waits for the end of a process. It ends with it, at the latest when the
// harness kills what is left.
func (r *register) watch(l *life) {
	fds := []unix.PollFd{{Fd: int32(l.pidfd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, -1)
		if n > 0 || (err != nil && err != unix.EINTR) {
			break
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = unix.Close(l.pidfd)
	l.pidfd = -1
	if l.To == 0 {
		l.To = time.Since(r.start)
	}
	r.alive--
	r.ended.Broadcast()
}

func (r *register) write(b begun) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.byID[b.BackendID]
	if l == nil {
		r.wrong = append(r.wrong, fmt.Sprintf("harness: backend %s writes without having begun", b.BackendID))
		return
	}
	if b.Token < r.newest[l.key()] {
		l.Stale++
		return
	}
	r.newest[l.key()] = b.Token
	l.Writes++
}

// running are the backends whose processes live.
func (r *register) running() []*life {
	r.mu.Lock()
	defer r.mu.Unlock()
	var running []*life
	for _, l := range r.lives {
		if l.To == 0 {
			running = append(running, l)
		}
	}
	return running
}

// of gives a copy of what is known of a backend's process.
func (r *register) of(backend string) (life, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.byID[backend]
	if l == nil {
		return life{}, false
	}
	return *l, true
}

// killAll ends what is left and waits for it.
func (r *register) killAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range r.lives {
		if l.To == 0 {
			_ = unix.Kill(l.PID, unix.SIGKILL)
		}
	}
	for r.alive > 0 {
		r.ended.Wait()
	}
}
