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
	Forget bool   `help:"Forget its key, too: its URL does not start it again (connect --resume). With --key also where the key is dormant, and nothing is to end."`
	NoWait bool   `help:"Do not wait until it has ended."`
}

// Run asks, then shows the backend's states until it has ended.
func (c *terminateCmd) Run(r *run) error {
	if c.Forget && c.Key != "" {
		return c.forget(r)
	}
	nc, err := c.which.open(r, &c.clientFlags)
	if err != nil {
		return err
	}
	defer nc.Close()
	req := messages.TerminateRequest{BackendID: c.Backend, Hard: c.Hard, Forget: c.Forget, By: whoAsks(), Reason: c.Reason}
	if _, err := ask[messages.Empty](r, &c.clientFlags, nc, messages.SubjectTerminate, req); err != nil {
		return err
	}
	return c.follow(r, nc)
}

// forget asks by the key, which may be dormant, and follows the end of who holds it, if somebody does.
func (c *terminateCmd) forget(r *run) error {
	if err := c.check(true); err != nil {
		return err
	}
	nc, err := c.clientFlags.open(r)
	if err != nil {
		return err
	}
	defer nc.Close()
	key := &messages.Key{Name: c.Key, Namespace: c.Namespace}
	req := messages.TerminateRequest{Key: key, Hard: c.Hard, Forget: true, By: whoAsks(), Reason: c.Reason}
	if _, err := ask[messages.Empty](r, &c.clientFlags, nc, messages.SubjectTerminate, req); err != nil {
		return err
	}
	info, err := ask[messages.BackendInfo](r, &c.clientFlags, nc, messages.SubjectStatus, messages.StatusRequest{Key: key})
	switch {
	case err != nil && messages.KindOf(err) != messages.NotFound: // its last backend may be forgotten
		return err
	case err == nil && info.Status != messages.Terminated:
		c.Backend = info.BackendID
		return c.follow(r, nc)
	case c.JSON:
		return r.printIndented(messages.Empty{})
	}
	r.printf("%s is forgotten; no backend holds it\n", keyText(*key))
	return nil
}

// follow shows the states of what was asked to end, until it has.
func (c *terminateCmd) follow(r *run, nc *nats.Conn) error {
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
