package client_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/fake"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/messages"
	"github.com/jetway-project/jetway/messages/client"
)

// farAway is a stack on a cluster of NATS servers of which one is far from the others. The drone is near; a worker is there, too, and one far.
type farAway struct {
	t        *testing.T
	nodes    *natstest.Nodes
	conns    [3]*nats.Conn
	rt       *fake.Runtime
	watching sync.WaitGroup
}

func startFarAway(t *testing.T) *farAway {
	t.Helper()
	f := &farAway{t: t, nodes: natstest.Cluster(t), rt: fake.New()}
	for i := range f.conns {
		f.conns[i] = natstest.Conn(t, f.nodes.URL(i))
	}
	streams := bus.Streams{Replicas: 3, Actions: bus.MinStream, Events: bus.MinStream, Logs: bus.MinStream}
	js := natstest.JetStream(t, f.conns[0])
	testkit.Eventually(t, "the streams are made", func() bool { return bus.EnsureStreams(t.Context(), js, streams) == nil })
	f.nodes.LeadNear(t, f.conns[0], messages.StreamEvents)
	st := openStore(t)
	startWorker(t, "wo-near", f.nodes.URL(0), st, streams)
	startWorker(t, "wo-far", f.nodes.URL(2), st, streams)
	startDrone(t, f.nodes.URL(0), f.rt)
	return f
}

func (f *farAway) connect(backend string, prepare time.Duration) {
	f.t.Helper()
	executable := fmt.Sprintf(`{"fake":{"prepare_for":%q}}`, prepare)
	_, err := client.New(f.conns[0]).Connect(testkit.Context(f.t), messages.ConnectRequest{
		Key: &messages.Key{Name: backend}, SpawnConfig: &messages.SpawnConfig{ID: backend, Executable: []byte(executable)},
	})
	must(f.t, err)
}

// watch has somebody watch a backend on one of the servers until it has the status.
func (f *farAway) watch(server int, backend string, status messages.Status) {
	f.watching.Go(func() { f.see(server, backend, status, func() {}) })
}

// see watches a backend on one of the servers until it has the status, and sees that its states only rise.
func (f *farAway) see(server int, backend string, status messages.Status, each func()) {
	last := 0
	for event, err := range client.New(f.conns[server]).Watch(testkit.Context(f.t), backend) {
		if err != nil || event.Number <= last {
			f.t.Errorf("server %d, %s: %d after %d, %v", server, backend, event.Number, last, err)
			return
		}
		if last = event.Number; event.Status == status {
			return
		}
		each()
	}
	f.t.Errorf("server %d, %s: it ends with %d, before %s", server, backend, last, status)
}

// recorded says whether the stream has the state, as a near server knows it.
func (f *farAway) recorded(backend string, status messages.Status) bool {
	events, err := client.New(f.conns[0]).Recorded(f.t.Context(), backend)
	return err == nil && slices.ContainsFunc(events, func(e messages.StateEvent) bool { return e.Status == status })
}

// end has a backend end by itself.
func (f *farAway) end(backend string) {
	f.t.Helper()
	for _, instance := range f.rt.Live() {
		if instance.BackendID() == backend {
			instance.End(runtime.Exit{Code: 3})
			return
		}
	}
	f.t.Errorf("%s does not run", backend)
}

// typescript is the TypeScript client, which watches what it is named on one of the servers until it has the status.
type typescript struct {
	names io.WriteCloser
	seen  chan string
}

func (f *farAway) typescript(dir string, server int, status messages.Status) *typescript {
	f.t.Helper()
	cmd := exec.CommandContext(f.t.Context(), "node", "test/watch.mjs", f.nodes.URL(server), status.String())
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	names, err := cmd.StdinPipe()
	must(f.t, err)
	out, err := cmd.StdoutPipe()
	must(f.t, err)
	must(f.t, cmd.Start())
	ts := &typescript{names, make(chan string, 100)}
	f.watching.Go(func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			ts.seen <- lines.Text()
		}
		close(ts.seen)
		if err := cmd.Wait(); err != nil {
			f.t.Errorf("the TypeScript client on server %d: %v", server, err)
		}
	})
	return ts
}

func (ts *typescript) watch(backend string) { _, _ = fmt.Fprintln(ts.names, backend) }

// I5: in a cluster each of many who begin to watch while states change hears that its backend is ready, whichever server it asks: where links
// are slow an event may pass before the subscription is known where it is published, and not be there yet for a direct get. Where a
// server does not hear the others, one who begins to watch there hears from a worker what has happened since; and one who had begun hears it
// once the servers hear each other again, though what passed meanwhile does not come live.
func TestI5WatchersInAClusterMissNothing(t *testing.T) {
	t.Parallel()
	testkit.Long(t)
	needs(t, "node", "npm")
	ts := t.TempDir()
	must(t, os.CopyFS(ts, os.DirFS(filepath.Join("..", "client-ts"))))
	command(t, ts, nil, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
	command(t, ts, nil, "npm", "run", "build")
	f := startFarAway(t)

	f.connect("cut", 0)
	f.watch(2, "cut", messages.Terminated)
	cut := f.typescript(ts, 2, messages.Terminated)
	cut.watch("cut")

	const crowd = 40
	ready := f.typescript(ts, 2, messages.Ready)
	f.nodes.Delay(100 * time.Millisecond) // longer than it takes to get ready: what passes in between is missed by who only subscribes and reads once
	var near sync.WaitGroup
	for i := range crowd {
		backend := fmt.Sprintf("b-%d", i)
		f.connect(backend, time.Duration(i%10)*time.Millisecond)
		near.Go(func() {
			named := sync.OnceFunc(func() { ready.watch(backend) })
			f.see(0, backend, messages.Ready, func() { // with each state somebody begins elsewhere, to whom the next one comes meanwhile
				named()
				f.watch(1, backend, messages.Ready)
				f.watch(2, backend, messages.Ready)
			})
		})
	}
	near.Wait()
	must(t, ready.names.Close())
	for range crowd {
		testkit.Receive(t, ready.seen, "a backend is ready")
	}

	f.nodes.Cut()
	f.end("cut")
	testkit.Eventually(t, "its end is on the bus, where the far server does not hear it", func() bool { return f.recorded("cut", messages.Terminated) })
	late := f.typescript(ts, 2, messages.Terminated)
	late.watch("cut")
	must(t, late.names.Close())
	f.see(2, "cut", messages.Terminated, func() {})
	testkit.Receive(t, late.seen, "a worker tells that it has ended")
	f.nodes.Heal()
	must(t, cut.names.Close())
	testkit.Receive(t, cut.seen, "the end is heard")
	f.watching.Wait()
}
