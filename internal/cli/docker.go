package cli

import (
	"time"

	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/docker"
)

// dockerFlags are for drones whose runtime is docker.
type dockerFlags struct {
	DockerHost        string            `placeholder:"URL" help:"Where the engine, Docker or Podman, answers, such as unix:///var/run/docker.sock or unix:///run/podman/podman.sock. Default: DOCKER_HOST, or the usual socket."`
	DockerRuntime     string            `placeholder:"NAME" help:"OCI runtime of containers, such as runsc. Default: the engine's."`
	DockerLogDriver   string            `placeholder:"NAME" help:"Log driver of containers. Default: json-file, at most two files of 10 MB each."`
	DockerLogOpt      map[string]string `placeholder:"NAME=VALUE" help:"Option of the log driver; may be repeated."`
	DockerLabel       map[string]string `placeholder:"NAME=VALUE" help:"Further label of containers; may be repeated."`
	DockerPruneImages time.Duration     `placeholder:"AGE" help:"Remove images that this drone pulled once no container has used them for so long. Default: never."`
	MountBase         string            `type:"path" placeholder:"DIR" help:"Directory in which containers may have folders, each a backend that asks for one by mount. Default: none may."`
}

// open connects to the engine.
func (c *dockerFlags) docker(r *run, d *droneCmd, stateDir string) (runtime.Runtime, error) {
	config := docker.Config{
		Drone:       d.Name,
		Cluster:     d.Cluster,
		Engine:      c.DockerHost,
		Host:        d.IP,
		Runtime:     c.DockerRuntime,
		LogDriver:   c.DockerLogDriver,
		LogOptions:  c.DockerLogOpt,
		Labels:      c.DockerLabel,
		PruneImages: c.DockerPruneImages,
		MountBase:   c.MountBase,
		StateDir:    stateDir,
		Log:         r.log.With("drone", d.Name),
	}
	if err := config.Validate(); err != nil {
		return nil, usagef("--runtime docker: %v", err)
	}
	return docker.New(r.ctx, config)
}
