package cli

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/jetway-project/jetway/messages"
)

func backendOf(id, key, drone string, status messages.Status) messages.BackendInfo {
	return messages.BackendInfo{BackendID: id, Key: messages.Key{Name: key}, Drone: drone, State: messages.State{Status: status}}
}

func statsOf(id string, at time.Time, cpu time.Duration, used, limit uint64) []byte {
	return messages.Encode(messages.Stats{BackendID: id, Time: at, CPUUsed: uint64(cpu), MemUsed: used, MemLimit: limit})
}

// A table is made of what backends said last and of what they are.
func TestTopTable(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 15, 4, 5, 0, time.Local)
	table := &top{uses: make(map[string]*use)}
	table.list([]messages.BackendInfo{
		backendOf("b1", "one", "dr-a", messages.Ready), backendOf("b2", "two", "dr-b", messages.Ready),
		backendOf("b3", "three", "dr-a", messages.Loading), backendOf("b4", "four", "dr-a", messages.Ready),
	}, now)
	table.take(statsOf("b1", now, 5*time.Second, 64<<20, 256<<20), now)
	table.take(statsOf("b2", now.Add(-time.Hour), time.Second, 512<<20, 0), now)
	table.take(statsOf("b2", now.Add(-time.Hour+5*time.Second), 10*time.Second, 512<<20, 0), now) // 2 processors for 5 s
	table.take([]byte(`{"backend_id":"B 4"}`), now)
	if table.complete() {
		t.Error("complete without b4")
	}
	table.take(statsOf("b4", now, 0, 1<<20, 0), now)
	if !table.complete() {
		t.Error("not complete, though what loads has nothing to say")
	}
	table.backends[3].Asleep = true
	delete(table.uses, "b4")
	if !table.complete() {
		t.Error("not complete, though what sleeps says nothing")
	}
	table.backends[3].Asleep = false
	table.take(statsOf("b4", now, 0, 1<<20, 0), now)
	header := "15:04:05  4 backends, CPU 250.0% of one processor, memory 577M\n"
	want(t, "by cpu", strings.Join(table.lines("cpu", now), "\n"), header+`BACKEND   CPU      MEMORY     STATUS    DRONE   KEY
b2        200.0%   512M       ready     dr-b    two
b1        50.0%    64M/256M   ready     dr-a    one
b4        0.0%     1M         ready     dr-a    four
b3        -        -          loading   dr-a    three`)
	for by, order := range map[string]string{"cpu": "b2 b1 b4 b3", "memory": "b2 b1 b4 b3", "name": "b1 b2 b3 b4"} {
		var ids []string
		for _, row := range table.rows(by) {
			ids = append(ids, row.BackendID)
		}
		want(t, by, strings.Join(ids, " "), order)
	}
	// Who has not spoken for long is not taken for one who uses as much as then.
	table.list(table.backends, now.Add(time.Minute))
	if len(table.uses) != 0 {
		t.Errorf("it still shows %v", table.uses)
	}
}

func TestTopFrameFitsTheScreen(t *testing.T) {
	t.Parallel()
	got := frame([]string{"héad", "longer than that", "never seen"}, 6, 2)
	want(t, "a frame", got, "\x1b[Hhéad\x1b[K\r\nlonge…\x1b[K\x1b[J")
}

func TestTopOnceAndFollowed(t *testing.T) {
	t.Parallel()
	w := newFakeWorker(t, map[string]func([]byte) any{messages.SubjectBackends: func(data []byte) any {
		req, err := messages.Decode[messages.BackendsRequest](data)
		if err != nil || req.All {
			return messages.Errorf(messages.BadRequest, "bad: %v", err)
		}
		list := []messages.BackendInfo{backendOf("b1", "one", "dr-a", messages.Ready), backendOf("b2", "two", "dr-b", messages.Ready)}
		if req.Drone == "dr-a" {
			list = list[:1]
		}
		return messages.BackendsResponse{Backends: list}
	}})
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { // as drones do, only faster
		defer close(stopped)
		for n := 0; ; n++ {
			for _, id := range []string{"b1", "b2"} {
				_ = w.nc.Publish(messages.StatsSubject(id), statsOf(id, time.Unix(int64(n), 0), 250*time.Millisecond, 1<<20, 2<<20))
			}
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	defer func() { close(stop); <-stopped }()
	stdout, _, code := jetway(t, "top", "--nats", w.url, "--once")
	wantCode(t, code, ExitOK)
	if lines := strings.Split(stdout, "\n"); len(lines) != 5 || !strings.Contains(lines[0], "2 backends") || !strings.Contains(lines[2], "1M/2M") {
		t.Errorf("printed\n%s", stdout)
	}
	stdout, _, code = jetway(t, "top", "--nats", w.url, "--once", "--json", "--drone", "dr-a")
	wantCode(t, code, ExitOK)
	var rows []topRow
	if err := json.Unmarshal([]byte(stdout), &rows); err != nil || len(rows) != 1 || rows[0].MemUsed != 1<<20 || rows[0].Key.Name != "one" {
		t.Errorf("printed %s: %v", stdout, err)
	}
	followed := begin(t, "top", "--nats", w.url, "--json")
	followed.stdout.await(t, `"backend_id":"b2","key":\{"name":"two"\},"drone":"dr-b","status":"ready","time":"[^"]+","cpu_percent":25,`)
	followed.stop()
	followed.ends(ExitInterrupted)
	_, _, code = jetway(t, "top", "--nats", w.url, "--drone", "a")
	wantCode(t, code, ExitUsage)
}
