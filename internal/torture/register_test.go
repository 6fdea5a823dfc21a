//go:build linux

package torture_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// life is one process of a backend, as the harness saw it.
type life struct {
	begun
	// From and To are since the beginning of the run; To is 0 while it lives.
	From, To time.Duration
	// Writes and Stale are how often it wrote with the newest token, and without.
	Writes, Stale int
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
	url   string
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
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &register{url: "http://" + listener.Addr().String(), start: start, byID: map[string]*life{}, newest: map[keyName]int64{}}
	r.ended = sync.NewCond(&r.mu)
	mux := http.NewServeMux()
	mux.HandleFunc("/begun", r.handle(r.begin))
	mux.HandleFunc("/write", r.handle(r.write))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: patience}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) })
	t.Cleanup(func() {
		_ = server.Close()
		serving.Wait()
	})
	return r
}

func (r *register) handle(do func(begun)) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		var b begun
		if err := json.NewDecoder(req.Body).Decode(&b); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		do(b)
	}
}

func (r *register) begin(b begun) {
	now := time.Since(r.start)
	pidfd, err := unix.PidfdOpen(b.PID, 0)
	r.mu.Lock()
	defer r.mu.Unlock()
	l := &life{begun: b, From: now}
	if before := r.byID[b.BackendID]; before != nil {
		r.wrong = append(r.wrong, fmt.Sprintf("I3: backend %s was started twice: process %d from %s to %s, process %d from %s",
			b.BackendID, before.PID, before.From, before.To, b.PID, now))
	}
	r.lives, r.byID[b.BackendID] = append(r.lives, l), l
	if err != nil { // it has ended already
		l.To = now
		return
	}
	r.alive++
	go r.watch(l, pidfd)
}

// watch waits for the end of a process. It ends with it, at the latest when the
// harness kills what is left.
func (r *register) watch(l *life, pidfd int) {
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, -1)
		if n > 0 || (err != nil && err != unix.EINTR) {
			break
		}
	}
	_ = unix.Close(pidfd)
	r.mu.Lock()
	defer r.mu.Unlock()
	l.To = time.Since(r.start)
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
