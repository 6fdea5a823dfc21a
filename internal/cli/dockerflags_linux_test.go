package cli

import (
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/network"

	"github.com/jetway-project/jetway/internal/testkit/dockertest"
	"github.com/jetway-project/jetway/messages"
)

// The demand: the drone's flags for Docker reach its containers, which listen on a free port of
// the drone's address and nowhere else.
func TestFlagsOfADroneReachItsContainers(t *testing.T) {
	t.Parallel()
	s := newSite(t, "docker")
	base := t.TempDir()
	s.agent(t.TempDir(), "", "--ip", "127.0.0.2", "--mount-base", base, "--docker-runtime", "io.containerd.runc.v2",
		"--docker-log-driver", "local", "--docker-log-opt", "max-size=1m", "--docker-label", "team=docs")
	resp := s.connect("doc", map[string]any{"image": s.image("/room"), "pull_policy": "Never", "mount": true})
	address := s.awaitStatus(resp.BackendID, messages.Ready).Address

	got := s.container()
	ports := got.NetworkSettings.Ports
	if bound := ports[network.MustParsePort("8080/tcp")]; len(ports) != 1 || len(bound) != 1 || bound[0].HostIP.String() != "127.0.0.2" || net.JoinHostPort("127.0.0.2", bound[0].HostPort) != address {
		t.Errorf("of %s the ports are %+v", address, ports)
	}
	if !slices.Contains(got.Config.Env, "PORT=8080") {
		t.Errorf("the environment is %q", got.Config.Env)
	}
	if got.HostConfig.Runtime != "io.containerd.runc.v2" || got.Config.Labels["team"] != "docs" {
		t.Errorf("runtime %q, labels %v", got.HostConfig.Runtime, got.Config.Labels)
	}
	if log := got.HostConfig.LogConfig; log.Type != "local" || log.Config["max-size"] != "1m" {
		t.Errorf("log %+v", log)
	}
	if m := got.Mounts; len(m) != 1 || m[0].Destination != "/plane-data" || !strings.HasPrefix(m[0].Source, base+string(filepath.Separator)) {
		t.Errorf("mounts %+v", m)
	}
}

// The demand: each part of a start is bounded. A container that cannot be reached ends as that,
// and nothing of it is left.
func TestContainerThatNeverListensIsEnded(t *testing.T) {
	t.Parallel()
	dockertest.Needs(t)
	// More on a machine that is so slow that already the parts before take as long.
	for limit := time.Second; ; limit *= 2 {
		s := newSite(t, "docker")
		s.agent(t.TempDir(), "", "--startup-timeout", limit.String())
		resp := s.connect("doc", map[string]any{"image": s.image("/room", "-no-listen"), "pull_policy": "Never"})
		got := s.awaitStatus(resp.BackendID, messages.Terminated)
		if got.Reason != messages.ReasonStartupTimeout || !strings.Contains(got.Message, limit.String()) {
			t.Fatalf("ended as %+v", got)
		}
		s.awaitNoContainers()
		if got.LastStatus >= messages.Waiting {
			return
		}
	}
}
