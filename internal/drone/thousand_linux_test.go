package drone_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// statistics is a time in which an agent publishes those of all backends, someStatistics
// one in which it does of a part.
const (
	statistics     = 11 * time.Second
	someStatistics = 3 * time.Second
)

// mostPerBackend is what a backend may cost its agent, in bytes of resident memory.
const mostPerBackend = 64 << 10

// TestI8ThousandBackendsCostTheAgentLittle runs the program itself, as it is shipped,
// with a thousand processes that answer, and measures how its resident memory grows;
// and that of the next run of it, which adopts them all.
func TestI8ThousandBackendsCostTheAgentLittle(t *testing.T) {
	if testing.Short() {
		t.Skip("a thousand processes: left out with -short")
	}
	const first, count = 20, 1000
	s := newRealSite(t)
	s.set(func() { s.everyMS = 2000 })
	jetway := filepath.Join(t.TempDir(), "jetway")
	for program, pkg := range map[string]string{
		jetway: "github.com/jetway-project/jetway/cmd/jetway", filepath.Join(s.config.Root, "listener"): "../runtime/process/testdata/listener",
	} {
		if err := testkit.Build(t.Context(), program, pkg); err != nil {
			t.Fatal(err)
		}
	}
	run := func() *exec.Cmd {
		cmd := exec.Command(jetway, "drone", "--nats", s.config.URL, "--name", s.drone, "--cluster", s.config.Cluster,
			"--process-root", s.config.Root, "--data-dir", s.config.Dir, "--log-level", "warn")
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		return cmd
	}
	agent := run()
	renewed := func(want int) {
		t.Helper()
		defer func() {
			if last := s.lastHeartbeat(); t.Failed() {
				t.Logf("it said last that it is ready (%t), and renewed %d", last.Ready, len(last.Renew))
				s.set(func() {
					for id, states := range s.states {
						if last := states[len(states)-1]; last.Status == messages.Terminated {
							t.Logf("%s ended: %s %s", id, last.Reason, last.Message)
						}
					}
				})
			}
		}()
		testkit.Eventually(t, fmt.Sprintf("%d backends are renewed", want), func() bool {
			last := s.lastHeartbeat()
			return last.Ready && len(last.Renew) == want
		})
	}
	spawn := func(from, to int) {
		t.Helper()
		for n := from; n < to; n++ {
			s.spawn(fmt.Sprintf("b-%d", n), messages.Encode(map[string]any{"command": []string{"listener"}}))
		}
		for n := from; n < to; n++ {
			s.await(fmt.Sprintf("b-%d", n), messages.Ready)
		}
		renewed(to)
	}
	renewed(0)
	spawn(0, first) // what the first ones cost is not theirs
	before := settledRSS(t, agent, time.Second)
	spawn(first, first+count)
	cost := (settledRSS(t, agent, statistics) - before) / count
	t.Logf("a backend costs its agent %d bytes of resident memory", cost)
	if cost > mostPerBackend {
		t.Errorf("at most %d are allowed", mostPerBackend)
	}

	_ = agent.Process.Kill()
	_ = agent.Wait()
	s.set(func() { s.heartbeats = nil })
	agent = run()
	renewed(first + count)
	cost = (settledRSS(t, agent, someStatistics) - before) / count
	t.Logf("adopted, it costs %d", cost)
	if cost > mostPerBackend {
		t.Errorf("at most %d are allowed", mostPerBackend)
	}
	for n := range first + count {
		s.terminate(fmt.Sprintf("b-%d", n), true)
	}
	for n := range first + count {
		if end := s.end(fmt.Sprintf("b-%d", n)); end.Kind != messages.Hard {
			t.Errorf("ended as %+v", end)
		}
	}
	if !s.none() {
		t.Errorf("%d run on", len(s.running()))
	}
}

// settledRSS is the resident memory of a process that is not of files, in bytes, the most
// over a time.
func settledRSS(t *testing.T, cmd *exec.Cmd, over time.Duration) (most int) {
	t.Helper()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); time.Since(began) < over; <-tick.C {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		var kib int
		_, rest, _ := strings.Cut(string(status), "RssAnon:")
		if _, err := fmt.Sscan(rest, &kib); err != nil {
			t.Fatal(err)
		}
		most = max(most, kib<<10)
	}
	return most
}
