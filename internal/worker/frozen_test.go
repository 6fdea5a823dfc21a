package worker_test

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/nats-io/nats.go"

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

	// Who is not answered is not waited for: how soon an answer comes says nothing.
	const inRow, most = 500, 1 << 16
	inbox := nats.NewInbox()
	replies := make(chan *nats.Msg, most)
	sub, err := w.nc.ChanSubscribe(inbox+".*", replies)
	must(t, err)
	defer func() { _ = sub.Unsubscribe() }()
	var answered [most]bool
	asked, row, from := 0, 0, 0 // row: how many after from-1 are answered, without a gap
	testkit.Eventually(t, "none is lost of very many in a row", func() bool {
		for range min(20, most-asked) {
			must(t, w.nc.PublishRequest(messages.SubjectDrones, fmt.Sprint(inbox, ".", asked), nil))
			asked++
		}
		for len(replies) > 0 {
			n, err := strconv.Atoi(strings.TrimPrefix((<-replies).Subject, inbox+"."))
			must(t, err)
			answered[n] = true
		}
		row = 0
		for i := asked - 1; i >= 0 && row < inRow; i-- {
			switch {
			case answered[i]:
				row++
			case row > 0: // one that is not: the last ones may only not be answered yet
				row = 0
			}
			from = i
		}
		return row == inRow
	})
	lost := 0
	for _, ok := range answered[:from] {
		if !ok {
			lost++
		}
	}
	t.Logf("%d of %d requests were lost", lost, asked)
	if lost == 0 {
		t.Error("nothing was lost: the worker was not frozen")
	}
}
