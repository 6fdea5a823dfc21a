package cli

import "github.com/jetway-project/jetway/internal/drone/guard"

// guardCmd is for the drone, which starts it by itself.
type guardCmd struct {
	Dir string `required:"" placeholder:"DIR" help:"The drone's data directory."`
}

// Run guards until the command is stopped, or nobody needs it any more.
func (c *guardCmd) Run(r *run) error { return guard.Run(r.ctx, r.log, c.Dir) }
