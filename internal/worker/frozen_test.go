package worker_test

import (
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// One of two workers freezes: its machine answers for it, and the server goes on giving it its share of the
// requests, until it notices and drops its subscriptions. From then on none is lost.
func TestI7AFrozenWorkerIsGivenNoMoreRequests(t *testing.T) {
	testkit.Long(t)
	t.Parallel()
	w := newWorld(t)
	startWorker(t, w, "wo-a", options{})
	self, err := os.Executable()
	must(t, err)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), workerEnv+"="+string(messages.Encode([4]string{"wo-frozen", w.url, w.dsn, newVersion})))
	process(t, w, "wo-frozen", cmd)
	must(t, cmd.Process.Signal(syscall.SIGSTOP))
	t.Cleanup(func() { _ = cmd.Process.Signal(syscall.SIGCONT) }) // before it is asked to end

	frozen := time.Now()
	var mu sync.Mutex
	var asking sync.WaitGroup
	inRow, asked, lost, last := 0, 0, 0, time.Duration(0)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	testkit.Eventually(t, "none is lost of very many in a row", func() bool {
		<-tick.C
		at := time.Since(frozen)
		asking.Go(func() {
			_, err := w.nc.Request(messages.SubjectDrones, nil, 5*time.Second)
			mu.Lock()
			defer mu.Unlock()
			asked++
			if inRow++; err != nil {
				lost, last, inRow = lost+1, max(last, at), 0
			}
		})
		mu.Lock()
		defer mu.Unlock()
		// Those that will be lost are known to be only 5 s later.
		return inRow > 500
	})
	asking.Wait()
	t.Logf("%d of %d requests were lost, the last %s after the freeze", lost, asked, last.Round(100*time.Millisecond))
	if lost == 0 {
		t.Error("nothing was lost: the worker was not frozen")
	}
}
