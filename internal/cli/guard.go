package cli

import (
	"io"
	"os"

	"github.com/jetway-project/jetway/internal/drone/guard"
	"github.com/jetway-project/jetway/internal/runtime/docker"
	"github.com/jetway-project/jetway/internal/runtime/socket"
)

// guardCmd is `jetway guard`, a service of its own or started by `jetway drone`.
type guardCmd struct {
	Name       string `placeholder:"NAME" default:"${drone_name}" help:"Name of the drone, for its default data directory."`
	DataDir    string `type:"path" placeholder:"DIR" help:"The drone's data directory. Default: as of jetway drone."`
	Runtime    string `enum:"process,docker,socket,fake" default:"process" help:"The drone's runtime: ${enum}."`
	DockerHost string `placeholder:"URL" help:"Where the Docker engine answers, such as unix:///var/run/docker.sock. Default: DOCKER_HOST, or the usual socket."`
	socketFlags
	// Child says that the drone's agent has started this guard, which learns of the agent's end when its standard input closes.
	Child bool `hidden:"" help:"The drone's agent has started this guard, which learns of the agent's end when its standard input closes."`
}

// Run guards until the command is stopped, or as the drone's child, until nobody needs it any more.
func (c *guardCmd) Run(r *run) error {
	dir, err := (&droneCmd{Name: c.Name, DataDir: c.DataDir, Runtime: c.Runtime}).dataDir()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	supervisor := newSupervisor()
	cfg := guard.Config{Dir: dir, Looked: supervisor.alive, Log: r.log}
	if c.Child {
		cfg.Agent, cfg.Looked = io.Reader(os.Stdin), nil
	}
	if c.Runtime == "docker" {
		ender, err := docker.NewEnder(c.DockerHost)
		if err != nil {
			return usagef("--docker-host: %v", err)
		}
		defer ender.Close()
		cfg.Engine = ender
	}
	if c.Runtime == "socket" {
		ender, err := socket.NewEnder(c.RuntimeSocket)
		if err != nil {
			return badFlag("--runtime-socket", err)
		}
		cfg.Engine, cfg.Afar = ender, true
	}
	return stopped(r, guard.Run(r.ctx, cfg))
}
