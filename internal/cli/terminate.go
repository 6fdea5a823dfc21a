package cli

import (
	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/messages"
	"github.com/jetway-project/jetway/messages/client"
)

// terminateCmd is `jetway terminate`.
type terminateCmd struct {
	clientFlags
	which
	Reason string `placeholder:"TEXT" help:"Say why, for whoever asks later why it ended."`
	Hard   bool   `help:"Kill it at once (SIGKILL), instead of asking it to end (SIGTERM) and killing it when its grace is over."`
	NoWait bool   `help:"Do not wait until it has ended."`
}

// Run asks, then shows the backend's states until it has ended.
func (c *terminateCmd) Run(r *run) error {
	nc, err := c.which.open(r, &c.clientFlags)
	if err != nil {
		return err
	}
	defer nc.Close()
	req := messages.TerminateRequest{BackendID: c.Backend, Hard: c.Hard, By: whoAsks(), Reason: c.Reason}
	if _, err := ask[messages.Empty](r, &c.clientFlags, nc, messages.SubjectTerminate, req); err != nil {
		return err
	}
	if c.NoWait {
		if c.JSON {
			return c.print(r, nc)
		}
		r.printf("%s is asked to end\n", c.Backend)
		return nil
	}
	ended := false
	if !c.JSON {
		var err error
		if ended, err = printEnded(r, &c.clientFlags, nc, c.Backend, messages.Terminating); err != nil {
			return err
		}
	}
	if !ended {
		for event, err := range client.New(nc).Watch(r.ctx, c.Backend) {
			if err != nil {
				return err
			}
			if event.Status.Leaving() && !c.JSON {
				r.printEvent(event, false, false)
			}
		}
	}
	if c.JSON {
		return c.print(r, nc)
	}
	return nil
}

// print shows the backend as it is now.
func (c *terminateCmd) print(r *run, nc *nats.Conn) error {
	info, err := ask[messages.BackendInfo](r, &c.clientFlags, nc, messages.SubjectStatus, messages.StatusRequest{BackendID: c.Backend})
	if err != nil {
		return err
	}
	return r.printIndented(info)
}
