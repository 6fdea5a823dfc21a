package drone_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// crowd is many real backends under one agent.
type crowd struct {
	*realSite
	program string // jetway, as it is shipped; "": this binary as the agent
	agent   *osAgent
	count   int
}

func newCrowd(t *testing.T) *crowd {
	t.Helper()
	c := &crowd{realSite: newRealSite(t)}
	c.set(func() { c.everyMS = testkit.Sized[int64](t, 500, 2000) })
	if err := testkit.Build(t.Context(), filepath.Join(c.config.Root, "listener"), "../runtime/process/testdata/listener"); err != nil {
		t.Fatal(err)
	}
	return c
}

// begin starts an agent, the next one after a kill, and waits until it has all backends.
func (c *crowd) begin() {
	c.t.Helper()
	if c.agent != nil {
		c.agent.kill()
		c.set(func() { c.heartbeats = nil })
	}
	if c.program == "" {
		c.agent = c.run("")
	} else {
		c.agent = startProgram(c.t, exec.Command(c.program, "drone", "--nats", c.config.URL, "--name", c.drone, "--cluster", c.config.Cluster,
			"--process-root", c.config.Root, "--data-dir", c.config.Dir, "--log-level", "warn"))
	}
	c.renewed()
}

func (c *crowd) renewed() {
	c.t.Helper()
	testkit.Eventually(c.t, fmt.Sprintf("%d backends are renewed", c.count), func() bool {
		last := c.lastHeartbeat()
		return last.Ready && last.Load.Backends == c.count
	})
}

// growTo spawns backends until there are so many, and all are ready.
func (c *crowd) growTo(count int) {
	c.t.Helper()
	from := c.count
	for c.count < count {
		c.spawn(fmt.Sprintf("b-%d", c.count), messages.Encode(map[string]any{"command": []string{"listener"}}))
		c.count++
	}
	for n := from; n < count; n++ {
		states := c.await(fmt.Sprintf("b-%d", n), messages.Ready)
		if last := states[len(states)-1]; last.Status != messages.Ready {
			c.t.Fatalf("b-%d ended: %s %s", n, last.Reason, last.Message)
		}
	}
	c.renewed()
}

// end kills them all, and sees that nothing is left.
func (c *crowd) end() {
	c.t.Helper()
	for n := range c.count {
		c.terminate(fmt.Sprintf("b-%d", n), true)
	}
	for n := range c.count {
		if end := c.hub.end(fmt.Sprintf("b-%d", n)); end.Kind != messages.Hard {
			c.t.Errorf("ended as %+v", end)
		}
	}
	if !c.none() {
		c.t.Errorf("%d run on", len(c.running()))
	}
}

// I1, I8: many processes are started, outlive their agent, are taken over by the next one, and end.
func TestI1I8ManyProcessesOutliveAKilledAgent(t *testing.T) {
	t.Parallel()
	c := newCrowd(t)
	c.begin()
	c.growTo(testkit.Sized(t, 20, 300))
	before := c.running()
	c.begin()
	if after := c.running(); !slices.Equal(slices.Sorted(slices.Values(after)), slices.Sorted(slices.Values(before))) {
		t.Errorf("%d ran, then %d, not the same", len(before), len(after))
	}
	c.end()
}

// mostPerBackend is what a backend may cost its agent, in bytes of resident memory.
const mostPerBackend = 24 << 10

// I8: how the resident memory of an agent grows with backends that answer, and what the next run of
// it has, which adopts them all. In full size the agent is the program itself, as it is shipped.
func TestI8MemoryOfManyBackendsIsLittle(t *testing.T) {
	t.Parallel()
	c := newCrowd(t)
	c.config.GCPercent = 25 // of few backends, what they cost is to be more than what is garbage
	if testkit.Sized(t, false, true) {
		c.program = filepath.Join(t.TempDir(), "jetway")
		if err := testkit.Build(t.Context(), c.program, "github.com/jetway-project/jetway/cmd/jetway"); err != nil {
			t.Fatal(err)
		}
	}
	const first = 60 // what the first ones cost is not theirs
	count := testkit.Sized(t, 120, 1000)
	c.begin()
	c.growTo(first)
	before := c.settledRSS()
	c.growTo(first + count)
	cost := (c.settledRSS() - before) / count
	t.Logf("a backend costs its agent %d bytes of resident memory", cost)
	if cost > mostPerBackend {
		t.Errorf("at most %d are allowed", mostPerBackend)
	}
	c.begin()
	cost = (c.settledRSS() - before) / count
	t.Logf("adopted, it costs %d", cost)
	if cost > mostPerBackend {
		t.Errorf("at most %d are allowed", mostPerBackend)
	}
	c.end()
}

// settledRSS is the resident memory of the agent that is not of files, in bytes: the most until the
// statistics of every backend have been published.
func (c *crowd) settledRSS() (most int) {
	c.t.Helper()
	published, err := c.nc.SubscribeSync(messages.StatsSubject("*"))
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = published.Unsubscribe() }()
	for told := map[string]bool{}; len(told) < c.count; {
		msg, err := published.NextMsg(testkit.Patience)
		if err != nil {
			c.t.Fatal(err)
		}
		told[msg.Subject] = true
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.agent.cmd.Process.Pid))
		if err != nil {
			c.t.Fatal(err)
		}
		var kib int
		_, rest, _ := strings.Cut(string(status), "RssAnon:")
		if _, err := fmt.Sscan(rest, &kib); err != nil {
			c.t.Fatal(err)
		}
		most = max(most, kib<<10)
	}
	return most
}
