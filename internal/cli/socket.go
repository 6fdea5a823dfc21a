package cli

import (
	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/socket"
)

// socketFlags are for drones whose runtime is socket.
type socketFlags struct {
	RuntimeSocket string `type:"path" placeholder:"PATH" help:"Unix socket where your own runtime's server listens; deploy/RUNTIME.md says what it must do."`
}

// socket makes the runtime; its server may come later.
func (c *socketFlags) socket(r *run, d *droneCmd, stateDir string) (runtime.Runtime, error) {
	rt, err := socket.New(r.ctx, socket.Config{Drone: d.Name, Path: c.RuntimeSocket, StateDir: stateDir, Log: r.log.With("drone", d.Name)})
	if err != nil {
		return nil, badFlag("--runtime-socket", err)
	}
	return rt, nil
}
