package cli

import (
	"encoding/json"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// The demand: the drone's flags for Docker reach its containers, which listen on a free port of
// the drone's address and nowhere else.
func TestFlagsOfADroneReachItsContainers(t *testing.T) {
	t.Parallel()
	s := newSite(t).with(t, "docker")
	base := t.TempDir()
	s.agent(t.TempDir(), "", "--ip", "127.0.0.2", "--mount-base", base, "--docker-runtime", "io.containerd.runc.v2",
		"--docker-log-driver", "local", "--docker-log-opt", "max-size=1m", "--docker-label", "team=docs")
	resp := s.connect("doc", map[string]any{"image": s.image("/room"), "pull_policy": "Never", "mount": true})
	address := s.awaitStatus(resp.BackendID, messages.Ready).Address

	var all []struct {
		Config struct {
			Env    []string
			Labels map[string]string
		}
		HostConfig struct {
			Runtime   string
			LogConfig struct {
				Type   string
				Config map[string]string
			}
		}
		Mounts          []struct{ Source, Destination string }
		NetworkSettings struct {
			Ports map[string][]struct{ HostIP, HostPort string }
		}
	}
	if err := json.Unmarshal([]byte(shell(t, s.containers()+" | xargs docker inspect")), &all); err != nil || len(all) != 1 {
		t.Fatalf("%d containers, %v", len(all), err)
	}
	got := &all[0]
	ports := got.NetworkSettings.Ports
	if bound := ports["8080/tcp"]; len(ports) != 1 || len(bound) != 1 || bound[0].HostIP != "127.0.0.2" || net.JoinHostPort(bound[0].HostIP, bound[0].HostPort) != address {
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
	s := newSite(t).with(t, "docker")
	s.agent(t.TempDir(), "", "--startup-timeout", "2s")
	resp := s.connect("doc", map[string]any{"image": s.image("/room"), "pull_policy": "Never", "env": map[string]string{"HOST": "127.0.0.1"}})
	got := s.awaitStatus(resp.BackendID, messages.Terminated)
	if got.Reason != messages.ReasonStartupTimeout || got.LastStatus < messages.Waiting || !strings.Contains(got.Message, "2s") {
		t.Errorf("ended as %+v", got)
	}
	testkit.Eventually(t, "its container is removed", func() bool { return shell(t, s.containers()) == "" })
}
