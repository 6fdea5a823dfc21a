package cli

import (
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/messages"
)

// The demand: lists say which roles cannot be told apart, once for each name, and which drones' agents were stopped, and when.
func TestListsSayWhoHasOneNameAndWhoseAgentWasStopped(t *testing.T) {
	t.Parallel()
	url := natstest.Server(t).URL()
	nc := natstest.Conn(t, url)
	announce := func(service, role string, names ...string) {
		for _, name := range names {
			if err := bus.NewService(service, "", "1.2.3", map[string]string{role: name}).Announce(nc); err != nil {
				t.Fatal(err)
			}
		}
	}
	announce(messages.ServiceWorkers, "worker", "wo-a", "wo-b", "wo-a", "wo-a")
	announce(messages.ServiceProxies, "proxy", "px-a", "px-b", "px-b")
	_, err := nc.Subscribe(messages.SubjectDrones, func(m *nats.Msg) {
		_ = m.Respond(messages.Encode(messages.DronesResponse{Drones: []messages.DroneInfo{
			{Drone: "dr-a", Cluster: "c", Ready: true, NotReady: "of old"},
			{Drone: "dr-b", Cluster: "c", NotReady: messages.AgentStopped + "2026-11-30T12:00:00Z"},
			{Drone: "dr-c", Cluster: "c", Lost: true, NotReady: messages.AgentStopped + "2026-11-29T12:00:00Z"},
		}}))
	})
	if err == nil {
		err = nc.FlushTimeout(testkit.Patience)
	}
	if err != nil {
		t.Fatal(err)
	}
	for command, name := range map[string]string{"workers": "wo-a", "proxies": "px-b"} {
		_, said, code := jetway(t, command, "--nats", url)
		if want := "jetway: more than one of the " + command + " is called " + name + ":"; code != ExitOK || !strings.Contains(said, want) || strings.Count(said, "more than one") != 1 {
			t.Errorf("jetway %s: exit code %d, %s", command, code, said)
		}
	}
	list, _, code := jetway(t, "drones", "--nats", url)
	for line := range strings.SplitSeq(list, "\n") {
		switch name, _, _ := strings.Cut(line, " "); {
		case name == "DRONE" && !strings.HasSuffix(strings.TrimSpace(line), "NOT READY BECAUSE"),
			name == "dr-a" && strings.Contains(line, "of old"),
			name == "dr-b" && !(strings.Contains(line, "not ready") && strings.Contains(line, "its agent was stopped at ")),
			name == "dr-c" && !(strings.Contains(line, "lost") && strings.Contains(line, "its agent was stopped at ")):
			t.Errorf("a line is %q", line)
		}
	}
	if code != ExitOK || strings.Count(list, "its agent was stopped at ") != 2 {
		t.Errorf("jetway drones: exit code %d\n%s", code, list)
	}
}
