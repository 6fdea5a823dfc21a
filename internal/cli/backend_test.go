package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/jetway-project/jetway/messages"
)

func infoOf(id string, state messages.State) messages.BackendInfo {
	return messages.BackendInfo{
		BackendID: id, Key: messages.Key{Name: "doc-1", Namespace: "n", Tag: "t"}, Cluster: "localhost:9090", Drone: "dr-a",
		FencingToken: 1700000000001, CreatedAt: clock.Add(-192 * time.Second), ChangedAt: clock.Add(-5 * time.Second),
		State: state, Number: int(state.Status),
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	w := newFakeWorker(t, map[string]func([]byte) any{messages.SubjectStatus: func(data []byte) any {
		if strings.Contains(string(data), "gone") {
			return messages.Errorf(messages.NotFound, "there is no backend gone")
		}
		return infoOf("b1", messages.State{Status: messages.Ready, Address: "127.0.0.1:4000"})
	}})
	stdout, _, code := jetway(t, "status", "--nats", w.url, "b1")
	want(t, "stdout", stdout, `backend    b1
key        doc-1
namespace  n
tag        t
status     ready for 5s
           at 127.0.0.1:4000
age        3m12s
drone      dr-a
cluster    localhost:9090
fencing    1700000000001
`)
	wantCode(t, code, ExitOK)
	stdout, _, _ = jetway(t, "status", "--nats", w.url, "--json", "b1")
	if !strings.Contains(stdout, `"fencing_token": 1700000000001`) {
		t.Errorf("printed %s", stdout)
	}
	for _, command := range []string{"status", "watch"} {
		_, stderr, code := jetway(t, command, "--nats", w.url, "gone")
		want(t, "stderr", stderr, "jetway: there is no backend gone (NotFound): jetway backends --all lists what there is\n")
		wantCode(t, code, ExitFailed)
	}
}

func TestListings(t *testing.T) {
	t.Parallel()
	code3 := 3
	w := newFakeWorker(t, map[string]func([]byte) any{
		messages.SubjectBackends: func(data []byte) any {
			req, err := messages.Decode[messages.BackendsRequest](data)
			if err != nil || !req.All || req.Drone != "dr-a" {
				return messages.Errorf(messages.BadRequest, "bad: %v", err)
			}
			if req.After == "b1" {
				return messages.BackendsResponse{Backends: []messages.BackendInfo{
					infoOf("b2", messages.State{Status: messages.Terminated, ExitCode: &code3}),
				}}
			}
			return messages.BackendsResponse{Next: "b1", Backends: []messages.BackendInfo{infoOf("b1", messages.State{Status: messages.Ready, Address: "h:1"})}}
		},
		messages.SubjectDrones: func([]byte) any {
			return messages.DronesResponse{Drones: []messages.DroneInfo{
				{Drone: "dr-a", Cluster: "localhost:9090", Runtime: "process", Version: "v1", Ready: true, Load: messages.Load{Backends: 2, MemoryBytes: 1536 << 20, CPUMillis: 2500}, Capacity: messages.Capacity{MaxBackends: 10, MaxMemoryBytes: 64 << 30, MaxCPUMillis: 16000}, HeardMSAgo: 3400},
				{Drone: "dr-b", Cluster: "c", Pool: "p", Ready: true, Draining: true, Load: messages.Load{MemoryBytes: 1000 << 10}, HeardMSAgo: 1},
				{Drone: "dr-c", Cluster: "c", Ready: true, Load: messages.Load{Backends: 7}, Capacity: messages.Capacity{MaxBackends: 8000}, HeardMSAgo: 61000, Lost: true},
				{Drone: "dr-d", Cluster: "c"},
			}}
		},
	})
	stdout, _, code := jetway(t, "backends", "--nats", w.url, "--all", "--drone", "dr-a")
	want(t, "stdout", stdout, `BACKEND   KEY         STATUS       AGE     DRONE   CLUSTER
b1        n/doc-1:t   ready        3m12s   dr-a    localhost:9090   at h:1
b2        n/doc-1:t   terminated   3m12s   dr-a    localhost:9090   by itself, exit code 3
`)
	wantCode(t, code, ExitOK)
	stdout, _, code = jetway(t, "drones", "--nats", w.url)
	want(t, "stdout", stdout, `DRONE   STATE       BACKENDS   MEMORY     CPUS     CLUSTER          POOL   RUNTIME   HEARD      VERSION
dr-a    ready       2/10       1.5G/64G   2.5/16   localhost:9090          process   3s ago     v1
dr-b    draining    0          1M                  c                p                0s ago
dr-c    lost        0                              c                                 1m1s ago
dr-d    not ready   0                              c                                 0s ago
`)
	wantCode(t, code, ExitOK)
}

func TestTerminateWaits(t *testing.T) {
	t.Parallel()
	var w *fakeWorker
	zero := 0
	w = newFakeWorker(t, map[string]func([]byte) any{
		messages.SubjectTerminate: func(data []byte) any {
			if strings.Contains(string(data), "gone") {
				return messages.Errorf(messages.NotFound, "there is no backend gone")
			}
			return messages.Empty{}
		},
		messages.SubjectStatus: func(data []byte) any {
			if strings.Contains(string(data), "old") {
				return infoOf("old", messages.State{Status: messages.Terminated, LastStatus: messages.Ready, Reason: messages.ReasonSwept})
			}
			w.publish("b1", messages.State{Status: messages.Terminating, Reason: messages.ReasonExternal, Kind: messages.Soft},
				messages.State{Status: messages.Terminated, Reason: messages.ReasonExternal, Kind: messages.Soft, ExitCode: &zero})
			return infoOf("b1", messages.State{Status: messages.Ready})
		},
	})
	w.publish("b1", messages.State{Status: messages.Scheduled}, messages.State{Status: messages.Ready})
	stdout, stderr, code := jetway(t, "terminate", "--nats", w.url, "b1")
	want(t, "stdout", stdout, "TIME  terminating       external, soft\nTIME  terminated        external, soft, exit code 0\n")
	want(t, "stderr", stderr, "")
	wantCode(t, code, ExitOK)
	// Its events are long forgotten; nobody waits for them.
	stdout, _, code = jetway(t, "terminate", "--nats", w.url, "old")
	want(t, "stdout", stdout, "TIME  terminated        swept\n")
	wantCode(t, code, ExitOK)
	stdout, _, code = jetway(t, "terminate", "--nats", w.url, "--hard", "--no-wait", "b1")
	want(t, "stdout", stdout, "b1 is asked to end\n")
	want(t, "request", string(w.last().Data), `{"backend_id":"b1","hard":true,"by":"`+whoAsks()+`"}`)
	wantCode(t, code, ExitOK)
	_, _, code = jetway(t, "terminate", "--nats", w.url, "gone")
	wantCode(t, code, ExitFailed)
}

func TestWatchUntilInterrupted(t *testing.T) {
	t.Parallel()
	w := newFakeWorker(t, map[string]func([]byte) any{
		messages.SubjectStatus: func([]byte) any { return infoOf("b1", messages.State{Status: messages.Ready}) },
	})
	w.publish("b1", messages.State{Status: messages.Scheduled})
	watch := begin(t, "watch", "--nats", w.url, "b1")
	watch.stdout.await(t, "scheduled\n")
	w.publish("b1", messages.State{Status: messages.Ready, Address: "h:1"})
	watch.stdout.await(t, `ready +at h:1\n`)
	watch.stop()
	watch.ends(ExitInterrupted)
	want(t, "stderr", watch.stderr.String(), "")
}

func TestWatchEndsWithTheBackend(t *testing.T) {
	t.Parallel()
	// Without a worker: what happens is on the bus all the same.
	w := newFakeWorker(t, nil)
	w.publish("b1", messages.State{Status: messages.Scheduled}, messages.State{Status: messages.Terminated, Reason: messages.ReasonLost, Message: "the drone is gone"})
	stdout, stderr, code := jetway(t, "watch", "--nats", w.url, "--log-format", "text", "b1")
	want(t, "stdout", stdout, "TIME  scheduled\nTIME  terminated        lost: the drone is gone\n")
	if !strings.Contains(stderr, "no worker answers") {
		t.Errorf("stderr is %q", stderr)
	}
	wantCode(t, code, ExitOK)
}

func TestWatchAllBackends(t *testing.T) {
	t.Parallel()
	w := newFakeWorker(t, nil)
	watch := begin(t, "watch", "--nats", w.url)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { // until the watch, which begins some time, sees it
		defer close(stopped)
		for {
			w.publish("b2", messages.State{Status: messages.Ready})
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	watch.stdout.await(t, `b2 +ready`)
	close(stop)
	<-stopped
	watch.stop()
	watch.ends(ExitInterrupted)
}

// A NATS server that lost its data knows nothing of it, a worker does.
func TestWatchOfABackendWhoseEventsAreGone(t *testing.T) {
	t.Parallel()
	w := newFakeWorker(t, map[string]func([]byte) any{
		messages.SubjectStatus: func([]byte) any {
			return infoOf("b1", messages.State{Status: messages.Ready, Address: "h:1"})
		},
	})
	watch := begin(t, "watch", "--nats", w.url, "b1")
	watch.stdout.await(t, `ready +at h:1\n`)
	watch.stop()
	watch.ends(ExitInterrupted)
}
