package docker_test

import (
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/client"

	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/docker"
	"github.com/jetway-project/jetway/internal/testkit"
)

func limited(name string, value int64) []any {
	return []any{"resource_limits", map[string]int64{name: value}}
}

// refusesLimits sees that limits are refused where the engine can keep none.
func (s *stage) refusesLimits(spec runtime.Spec) bool {
	s.t.Helper()
	if !s.isBoundless() {
		return false
	}
	if said := s.refused(spec); !strings.Contains(said, "rootless") {
		s.t.Error(said)
	}
	return true
}

// Who takes more memory than allowed ends, and hears why: for certain from Docker and the kernel, but for
// what ends before they look.
func TestMemoryLimit(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	for _, as := range []string{"eat", "eat later"} {
		spec := s.spec(as, limited("memory_limit_bytes", 32<<20)...)
		if s.refusesLimits(spec) {
			return
		}
		instance := s.start(spec)
		if as == "eat later" {
			s.line("ready")
			visit(t, instance)
		}
		exit := s.exit(instance)
		sure := strings.HasPrefix(exit.Message, "out of memory")
		maybe := strings.HasPrefix(exit.Message, "killed, maybe for want of memory") && (as == "eat" || s.isPodman())
		if exit.Code != 137 || !sure && !maybe || !strings.HasSuffix(exit.Message, ": the limit is 33554432 bytes") {
			t.Errorf("%s: ended with %v", as, exit)
		}
	}
}

// visit connects to what listens.
func visit(t *testing.T, instance runtime.Instance) {
	t.Helper()
	testkit.Eventually(t, "it answers", func() bool {
		conn, err := net.Dial("tcp", instance.Address())
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
}

func TestProcessorTimeLimit(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	spec := s.spec("spin", limited("cpu_time_limit", 1)...)
	if s.refusesLimits(spec) {
		return
	}
	instance := s.start(spec)
	if exit := s.exit(instance); exit.Code != 137 {
		t.Fatalf("ended with %v", exit)
	}
}

// I8: a fork bomb stays in its container.
func TestI8ProcessesAreBounded(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	instance := s.start(s.spec("fork 200", limited("pids_limit", 60)...))
	exit := s.exit(instance)
	if exit.Code == 0 {
		t.Fatalf("ended with %v", exit)
	}
}

// The limits that only show in what Docker was told.
func TestLimitsReachTheEngine(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(c *docker.Config) { c.MountBase = t.TempDir() })
	instance := s.start(s.spec("quiet", "mount", true, "resource_limits", map[string]int64{
		"cpu_period": 50_000, "cpu_period_percent": 150, "memory_limit_bytes": 64 << 20, "cpu_time_limit": 1000,
	}))
	host := s.inspect(instance).HostConfig
	if host.CPUPeriod != 50_000 || host.CPUQuota != 75_000 || host.Memory != 64<<20 || host.MemorySwap != host.Memory || *host.PidsLimit != 4096 {
		t.Errorf("got %+v", host.Resources)
	}
	if len(host.Ulimits) != 1 || host.Ulimits[0].Soft != 1000 || host.Ulimits[0].Hard != 1000 {
		t.Errorf("ulimits %v", host.Ulimits)
	}
	if host.LogConfig.Type != "json-file" || host.LogConfig.Config["max-size"] != "10m" || host.Privileged || host.AutoRemove || host.RestartPolicy.Name != "no" {
		t.Errorf("got %+v", host)
	}
}

// What an operator names for all containers reaches them, and a container in a network of
// the request's answers as one in the engine's own does.
func TestConfigAndNetworkReachTheEngine(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(c *docker.Config) {
		c.Runtime, c.LogDriver, c.LogOptions = "runc", "json-file", map[string]string{"max-size": "1m"}
		c.Labels["team"] = "documents"
	})
	network := "jetway-test-" + newID()
	if _, err := s.engine.NetworkCreate(t.Context(), network, client.NetworkCreateOptions{Driver: "bridge"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.clear() // or the network is in use
		if _, err := s.engine.NetworkRemove(contextOf(t), network, client.NetworkRemoveOptions{}); err != nil {
			t.Error(err)
		}
	})
	spec := s.spec("serve", "network_name", network)
	instance := s.start(spec)
	found := s.inspect(instance)
	if host := found.HostConfig; host.Runtime != "runc" || host.LogConfig.Type != "json-file" || host.LogConfig.Config["max-size"] != "1m" || string(host.NetworkMode) != network {
		t.Errorf("got %+v", host)
	}
	labels := found.Config.Labels
	for name, want := range map[string]string{
		"team": "documents", "io.jetway.drone": s.config.Drone, "io.jetway.backend": spec.BackendID,
		"io.jetway.namespace": spec.Namespace, "io.jetway.key": spec.Key, "io.jetway.fencing-token": "7",
	} {
		if labels[name] != want {
			t.Errorf("label %s is %q, wanted %q", name, labels[name], want)
		}
	}
	s.line("ready")
	testkit.Eventually(t, "an answer at "+instance.Address(), func() bool {
		resp, err := http.Head("http://" + instance.Address())
		if err == nil {
			resp.Body.Close()
		}
		return err == nil
	})
}

// Plane's fields, from the control group and, for an engine elsewhere, from Docker:
// both say the same, nearly.
func TestUsage(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	if s.isBoundless() {
		if usage, err := s.start(s.spec("serve")).Usage(t.Context()); err != nil || usage != (runtime.Usage{}) {
			t.Errorf("usage %+v, %v, where nothing can be told", usage, err)
		}
		return
	}
	spec := s.spec("serve", limited("memory_limit_bytes", 64<<20)...)
	instance := s.start(spec)
	s.line("ready")
	far := newStage(t, func(c *docker.Config) { c.Drone, c.Engine = s.config.Drone, s.farEngine() })
	same := far.adopt(spec, instance.Handle())
	instances := []runtime.Instance{instance, same}
	if same.PID() != 0 {
		t.Errorf("process %d, on another machine", same.PID())
	}
	for _, i := range instances {
		var usage runtime.Usage
		t.Cleanup(func() { t.Logf("usage %+v", usage) })
		testkit.Eventually(t, "what it uses is told", func() (right bool) { // the kernel counts memory by the batch
			var err error
			if usage, err = i.Usage(t.Context()); err != nil {
				t.Fatal(err)
			}
			if s.isPodman() && i == same {
				usage.MemActive = max(usage.MemActive, 1) // Podman's API does not tell it
			}
			return usage.CPU > 0 && usage.MemUsed >= 1<<18 && usage.MemActive+usage.MemInactive > 0
		})
		if usage.CPU > time.Minute || usage.MemUsed > 64<<20 || usage.MemLimit != 64<<20 {
			t.Errorf("usage %+v", usage)
		}
	}
	// A busy engine may not answer in the time that a kill is given; who wants it then asks again.
	testkit.Eventually(t, "it is killed", func() bool { return same.Terminate(t.Context(), true) == nil })
	s.exit(instance)
	if _, err := instance.Usage(t.Context()); err == nil {
		t.Error("usage of what has ended")
	}
}
