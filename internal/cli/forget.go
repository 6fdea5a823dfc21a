package cli

import (
	"os"
	"os/user"

	"github.com/jetway-project/jetway/messages"
)

// forgetCmd is `jetway forget`.
type forgetCmd struct {
	clientFlags
	Drone string `arg:"" help:"The drone's name."`
}

// Help is part of jetway forget --help.
func (c *forgetCmd) Help() string {
	return "A drone that is lost goes from the list by itself after a while (--retain of the workers). One that is heard is not forgotten: stop it first. A drone that was forgotten and comes back registers anew."
}

// Run asks a worker to forget a lost drone.
func (c *forgetCmd) Run(r *run) error {
	if err := messages.CheckDroneName(c.Drone); err != nil {
		return invalid(err)
	}
	nc, err := c.open(r)
	if err != nil {
		return err
	}
	defer nc.Close()
	if _, err := ask[messages.Empty](r, &c.clientFlags, nc, messages.SubjectForget, messages.ForgetRequest{Drone: c.Drone}); err != nil {
		return err
	}
	if c.JSON {
		return r.printIndented(messages.ForgetRequest{Drone: c.Drone})
	}
	r.printf("%s is forgotten\n", c.Drone)
	return nil
}

// whoAsks names who runs the command, as user@machine; "" if the system does not say.
func whoAsks() string {
	me, err := user.Current()
	if err != nil {
		return ""
	}
	name := me.Username
	if host, err := os.Hostname(); err == nil {
		name += "@" + host
	}
	return oneLine(name[:min(len(name), messages.MaxName)])
}
