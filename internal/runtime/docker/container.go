package docker

import (
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/executable"
)

// Labels of containers.
const (
	labelPrefix    = "io.jetway."
	labelDrone     = labelPrefix + "drone"
	labelCluster   = labelPrefix + "cluster"
	labelBackend   = labelPrefix + "backend"
	labelNamespace = labelPrefix + "namespace"
	labelKey       = labelPrefix + "key"
	labelFencing   = labelPrefix + "fencing-token"
)

// inside is the port that the container's program listens on.
var inside = network.MustParsePort("8080/tcp")

var networkName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$`)

const namePrefix = "jetway-"

// containerName names a backend's container. A backend id is 1 to 45 of a-z 0-9 -.
func containerName(backendID string) string { return namePrefix + backendID }

// describe says what container is wanted. folder is the mount's source, or "".
func (r *Runtime) describe(spec runtime.Spec, c command, folder string) client.ContainerCreateOptions {
	host := &container.HostConfig{
		LogConfig:     container.LogConfig{Type: r.config.LogDriver, Config: r.config.LogOptions},
		NetworkMode:   network.NetworkDefault,
		PortBindings:  network.PortMap{inside: {{HostIP: r.host}}},
		RestartPolicy: container.RestartPolicy{Name: container.RestartPolicyDisabled},
		SecurityOpt:   []string{"no-new-privileges"},
		Runtime:       r.config.Runtime,
	}
	if c.NetworkName != nil {
		host.NetworkMode = container.NetworkMode(*c.NetworkName)
	}
	if folder != "" {
		host.Mounts = []mount.Mount{{Type: mount.TypeBind, Source: folder, Target: mountTarget}}
	}
	limit(host, c.ResourceLimits)
	if r.podman.Load() {
		host.Ulimits = append(host.Ulimits, ownLimits()...)
	}
	return client.ContainerCreateOptions{
		Name: containerName(spec.BackendID),
		Config: &container.Config{
			Image:        c.ref.String(),
			Env:          r.environment(spec, c),
			Labels:       r.labels(spec),
			ExposedPorts: network.PortSet{inside: {}},
		},
		HostConfig: host,
	}
}

func limit(host *container.HostConfig, l *executable.Limits) {
	pids := l.Pids()
	host.PidsLimit = &pids
	if l == nil {
		return
	}
	if l.CPUPeriodPercent != nil {
		host.CPUPeriod, host.CPUQuota = l.Period(), l.Quota()
	}
	if l.MemoryLimitBytes != nil {
		// The same number for both: no swap on top.
		host.Memory, host.MemorySwap = *l.MemoryLimitBytes, *l.MemoryLimitBytes
	}
	if l.CPUTimeLimit != nil {
		host.Ulimits = []*container.Ulimit{{Name: "cpu", Soft: *l.CPUTimeLimit, Hard: *l.CPUTimeLimit}}
	}
	if l.DiskLimitBytes != nil {
		host.StorageOpt = map[string]string{"size": strconv.FormatInt(*l.DiskLimitBytes, 10)}
	}
}

// environment is what is added to that of the image: later sources win.
func (r *Runtime) environment(spec runtime.Spec, c command) []string {
	env := map[string]string{}
	for name, value := range c.Env {
		env[string(name)] = string(value)
	}
	maps.Copy(env, spec.Env)
	env["HOST"], env["PORT"] = "0.0.0.0", inside.Port()
	env[runtime.EnvDrone] = r.config.Drone
	if r.config.Cluster != "" {
		env[runtime.EnvCluster] = r.config.Cluster
	}
	list := make([]string, 0, len(env))
	for name, value := range env {
		list = append(list, name+"="+value)
	}
	slices.Sort(list)
	return list
}

func (r *Runtime) labels(spec runtime.Spec) map[string]string {
	labels := map[string]string{labelDrone: r.config.Drone, labelBackend: spec.BackendID, labelNamespace: spec.Namespace, labelKey: spec.Key}
	maps.Copy(labels, r.config.Labels) // which name none of ours
	if r.config.Cluster != "" {
		labels[labelCluster] = r.config.Cluster
	}
	if token := spec.Env["SESSION_BACKEND_FENCING_TOKEN"]; token != "" {
		labels[labelFencing] = token
	}
	return labels
}

// ours are this drone's containers.
func (r *Runtime) ours() client.Filters {
	return client.Filters{}.Add("label", labelDrone+"="+r.config.Drone)
}

// others says of a container with this drone's name, by its labels, that it is that of a drone of another stack, which uses the same engine
// and happens to have the same name. It goes by the cluster, which is where browsers reach one stack; not by the
// data directory, for what an agent has left that lost its own must be found and ended (I1). Earlier builds say no cluster.
func (c Config) others(labels map[string]string) bool {
	cluster := labels[labelCluster]
	return cluster != "" && c.Cluster != "" && cluster != c.Cluster
}

// published is the port of this machine that leads to the container, if there is one.
func published(ports network.PortMap, host netip.Addr) (port string, ok bool) {
	for _, binding := range ports[inside] {
		if binding.HostIP == host && binding.HostPort != "" && binding.HostPort != "0" {
			return binding.HostPort, true
		}
	}
	return "", false
}
