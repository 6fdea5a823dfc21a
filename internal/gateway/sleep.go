package gateway

import (
	"context"
	"fmt"

	"github.com/jetway-project/jetway/messages"
	"github.com/jetway-project/jetway/messages/client"
)

// nap has a route put the backend in its path to sleep, or wake it, for who may touch it. It takes no body; one that is there may
// name that backend only, as it would on the bus.
func nap(subject string) func(*call) (any, error) {
	return func(c *call) (any, error) {
		if err := c.wantJSON(); err != nil {
			return nil, err
		}
		backend := c.r.PathValue("backend")
		if err := messages.CheckBackendID(backend); err != nil {
			return nil, noBackend(backend)
		}
		if len(c.body) > 0 {
			var named struct {
				BackendID string `json:"backend_id"`
			}
			if err := messages.ReadJSON(c.body, &named, true); err != nil {
				return nil, err
			}
			if named.BackendID != "" && named.BackendID != backend {
				return nil, messages.Errorf(messages.BadRequest, "backend_id: is %.60q, and the path names %s: leave the body out", named.BackendID, backend)
			}
		}
		if err := c.mayTouch(backend); err != nil {
			return nil, err
		}
		return ask[messages.NapResponse](c, subject, messages.NapRequest{BackendID: backend})
	}
}

// sleepText is the event of a backend that falls asleep or wakes, as /v1 sends it: it has a name, so that who reads states alone
// does not get it, and no id, so that who comes back goes on after the last state that he has got.
func (f *frame) sleepText() []byte {
	return fmt.Appendf(nil, "event: sleep\ndata: %s\n\n", messages.Encode(f.sleep))
}

// napped sends one backend's last event of sleep, where the worker that was asked for it knows of one that was not sent.
func (p *pump) napped(nap int64) error {
	if nap <= p.nap {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), client.DefaultTimeout)
	defer cancel()
	last, err := client.New(p.g.nc).LastNap(ctx, p.w.backend)
	if err != nil || last == nil {
		return nil // it is no more in the stream of events, or not yet: then it is sent when it is
	}
	_, err = p.take(&frame{sleep: last})
	return err
}
