package worker

import (
	"context"
	"errors"

	"github.com/jetway-project/jetway/internal/bus"
)

// retain deletes what is past its time, one small batch of each thing (I8); more
// says that there is more of something. All workers do it, each other rows.
func (w *worker) retain(ctx context.Context) (more bool, err error) {
	deleted, err := w.store.Retain(ctx, w.cfg.Retain)
	for _, drone := range deleted.Drones {
		w.log.Info("a drone that was lost for long is forgotten", "drone", drone, "retain", w.cfg.Retain)
		// Should the drone come back just now, it finds its consumer gone and registers again. Should
		// this fail, the server deletes what nobody has used for long.
		if err := bus.DeleteConsumer(ctx, w.js, drone); err != nil {
			w.log.Warn("cannot delete the consumer of a forgotten drone", "drone", drone, "err", err)
		}
	}
	if deleted.Any() {
		w.log.Debug("deleted what was past its time", "tokens", deleted.Tokens, "backends", deleted.Backends,
			"leases", deleted.Leases, "outbox", deleted.Outbox, "drones", len(deleted.Drones))
	}
	return deleted.Full, errors.Join(err, w.sealTokens(ctx))
}
