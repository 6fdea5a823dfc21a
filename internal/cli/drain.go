package cli

import (
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/messages"
)

// drainCmd is `jetway drain`.
type drainCmd struct {
	clientFlags
	Drone  string `arg:"" help:"The drone's name."`
	NoWait bool   `help:"Do not wait until its backends have ended."`
}

// drainLook is how often the remaining backends are counted. Asking again is all
// that waiting takes: a lost connection or an event that was missed changes nothing.
const drainLook = time.Second

// Run has the drone be given no more backends, and shows how many are left until
// there are none. That the user stops watching changes nothing for the drone.
func (c *drainCmd) Run(r *run) error {
	return c.withDrone(r, messages.SubjectDrain, c.Drone, func(nc *nats.Conn, left int) error {
		ticker := r.ticker(drainLook)
		defer ticker.Stop()
		shown := -1
		for {
			if left != shown {
				c.show(r, left)
				shown = left
			}
			if c.NoWait || left == 0 {
				return nil
			}
			select {
			case <-ticker.C:
			case <-r.ctx.Done():
				return r.ctx.Err()
			}
			resp, err := ask[messages.DrainResponse](r, &c.clientFlags, nc, messages.SubjectDrain, messages.DrainRequest{Drone: c.Drone})
			if err != nil && messages.KindOf(err) != messages.Unavailable {
				return stopped(r, err)
			}
			if err == nil {
				left = resp.Backends
			}
		}
	})
}

func (c *drainCmd) show(r *run, left int) {
	switch {
	case c.JSON:
		r.printJSON(struct {
			Drone string `json:"drone"`
			messages.DrainResponse
		}{c.Drone, messages.DrainResponse{Backends: left}})
	case left == 0:
		r.printf("%s drains: no backends are left\n", c.Drone)
	case left == 1:
		r.printf("%s drains: 1 backend is left\n", c.Drone)
	default:
		r.printf("%s drains: %d backends are left\n", c.Drone, left)
	}
}

// withDrone sends a request about a drone and goes on with its answer.
func (f *clientFlags) withDrone(r *run, subject, drone string, then func(nc *nats.Conn, backends int) error) error {
	if err := messages.CheckDroneName(drone); err != nil {
		return invalid(err)
	}
	nc, err := f.open(r)
	if err != nil {
		return err
	}
	defer nc.Close()
	resp, err := ask[messages.DrainResponse](r, f, nc, subject, messages.DrainRequest{Drone: drone})
	if err != nil {
		return err
	}
	return then(nc, resp.Backends)
}

// undrainCmd is `jetway undrain`.
type undrainCmd struct {
	clientFlags
	Drone string `arg:"" help:"The drone's name."`
}

// Run has the drone be given backends again.
func (c *undrainCmd) Run(r *run) error {
	return c.withDrone(r, messages.SubjectUndrain, c.Drone, func(_ *nats.Conn, backends int) error {
		if c.JSON {
			return r.printIndented(messages.DrainResponse{Backends: backends})
		}
		r.printf("%s takes backends again; it has %d\n", c.Drone, backends)
		return nil
	})
}
