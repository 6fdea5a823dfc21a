package cli

import (
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/messages"
)

// drainCmd is `jetway drain`.
type drainCmd struct {
	clientFlags
	Drone    string         `arg:"" predictor:"drone" help:"Name of the drone."`
	EndAfter *time.Duration `placeholder:"DURATION" help:"Have the workers end what still runs after this time (SIGTERM, then SIGKILL after the grace); 0s is at once. The workers do it even if this command has ended; undrain takes it back. Default: backends end by themselves."`
	NoWait   bool           `help:"Do not wait until the backends of the drone have ended."`
}

// Help is part of jetway drain --help.
func (c *drainCmd) Help() string {
	return `The drone drains until jetway undrain, also when this command is interrupted and when the drone's agent is started anew.

Examples:
  jetway drain dr-a                     wait until people have left
  jetway drain dr-a --end-after 30m     give them half an hour`
}

// drainLook is how often the command asks how many backends are left. It only ever asks again, so a lost connection or a missed event changes
// nothing.
const drainLook = time.Second

// Run drains the drone, and shows how many backends are left until there are none. If the user stops the command, the drone goes on draining.
func (c *drainCmd) Run(r *run) error {
	req := messages.DrainRequest{Drone: c.Drone}
	if c.EndAfter != nil {
		if *c.EndAfter < 0 || *c.EndAfter%time.Second != 0 {
			return usagef("--end-after: must be whole seconds, not %s", *c.EndAfter)
		}
		req.EndAfterSeconds = new(int64(*c.EndAfter / time.Second))
	}
	return c.withDrone(r, messages.SubjectDrain, req, func(nc *nats.Conn, left messages.DrainResponse) error {
		ticker := r.ticker(drainLook)
		defer ticker.Stop()
		shown := -1
		for {
			if left.Backends != shown && !c.JSON {
				r.printf("%s\n", drainText(c.Drone, left))
				shown = left.Backends
			}
			if c.NoWait || left.Backends == 0 {
				return c.print(r, drainState{c.Drone, true, left})
			}
			select {
			case <-ticker.C:
			case <-r.ctx.Done():
				if !c.JSON {
					r.notef("jetway: %s goes on draining; jetway undrain %[1]s ends that", c.Drone)
				}
				return r.ctx.Err()
			}
			resp, err := ask[messages.DrainResponse](r, &c.clientFlags, nc, messages.SubjectDrain, messages.DrainRequest{Drone: c.Drone})
			if err != nil && messages.KindOf(err) != messages.Unavailable {
				return err
			}
			if err == nil {
				left = resp
			}
		}
	})
}

func drainText(drone string, left messages.DrainResponse) string {
	ends := ""
	if s := left.EndInSeconds; s != nil && left.Backends > 0 {
		ends = fmt.Sprintf("; the workers end what is left in %s", time.Duration(*s)*time.Second)
	}
	switch left.Backends {
	case 0:
		return drone + " drains: no backends are left"
	case 1:
		return drone + " drains: 1 backend is left" + ends
	}
	return fmt.Sprintf("%s drains: %d backends are left%s", drone, left.Backends, ends)
}

// drainState is what drain and undrain print for programs.
type drainState struct {
	Drone    string `json:"drone"`
	Draining bool   `json:"draining"`
	messages.DrainResponse
}

func (f *clientFlags) print(r *run, state drainState) error {
	if !f.JSON {
		return nil
	}
	return r.printIndented(state)
}

// withDrone sends a request about a drone and goes on with its answer.
func (f *clientFlags) withDrone(r *run, subject string, req messages.DrainRequest, then func(*nats.Conn, messages.DrainResponse) error) error {
	if _, err := messages.Decode[messages.DrainRequest](messages.Encode(req)); err != nil {
		return invalid(err)
	}
	nc, err := f.open(r)
	if err != nil {
		return err
	}
	defer nc.Close()
	resp, err := ask[messages.DrainResponse](r, f, nc, subject, req)
	if err != nil {
		return err
	}
	return then(nc, resp)
}

// undrainCmd is `jetway undrain`.
type undrainCmd struct {
	clientFlags
	Drone string `arg:"" predictor:"drone" help:"Name of the drone."`
}

// Run ends the drain, so that the drone gets backends again.
func (c *undrainCmd) Run(r *run) error {
	return c.withDrone(r, messages.SubjectUndrain, messages.DrainRequest{Drone: c.Drone}, func(_ *nats.Conn, has messages.DrainResponse) error {
		if c.JSON {
			return c.print(r, drainState{c.Drone, false, has})
		}
		r.printf("%s takes backends again; it has %d\n", c.Drone, has.Backends)
		return nil
	})
}
