package outbox

import (
	"context"
	"errors"
)

// errHeld is what a row gets that waits for an earlier one of its backend.
var errHeld = errors.New("an earlier state of the backend is not published")

// publish publishes states, each backend's one after another: the next only once
// the one before is acknowledged, and none after one that failed, for the bus would
// keep them in the wrong order (I5). So in each round every backend has one message.
// Those of other backends go on; held are the backends of which one failed. It gives
// what was published.
func (r *Relay) publish(out []outgoing, held map[string]bool, failed map[*Row]error) (sent []outgoing) {
	for len(out) > 0 {
		round, later := make([]outgoing, 0, len(out)), []outgoing(nil)
		busy := make(map[string]bool, len(out))
		for _, o := range out {
			switch id := o.row.BackendID; {
			case held[id]:
				failed[o.row] = errHeld
			case busy[id]:
				later = append(later, o)
			default:
				busy[id] = true
				round = append(round, o)
			}
		}
		if len(round) > 0 {
			sent = append(sent, r.publishRound(round, held, failed)...)
		}
		out = later
	}
	return sent
}

// publishRound sends all, waits, and notes what failed.
func (r *Relay) publishRound(out []outgoing, held map[string]bool, failed map[*Row]error) (sent []outgoing) {
	// Not the role's context: what is committed is finished also while stopping.
	ctx, cancel := context.WithTimeout(context.Background(), ackTimeout)
	defer cancel()
	for i, err := range r.cfg.Publisher.Publish(messagesOf(out))(ctx) {
		if err == nil {
			sent = append(sent, out[i])
			continue
		}
		failed[out[i].row], held[out[i].row.BackendID] = err, true
		r.cfg.Log.Warn("cannot publish a state; trying again", "subject", out[i].msg.Subject, "err", err)
	}
	if r.cfg.Counter != nil {
		r.cfg.Counter.Published(false, len(sent), len(out)-len(sent))
	}
	return sent
}

// done gives the rows that are done with: states. Actions stay until taken.
func done(sent []outgoing) []Row {
	rows := make([]Row, 0, len(sent))
	for _, s := range sent {
		if s.row.Kind != KindSpawn && s.row.Kind != KindNap {
			rows = append(rows, *s.row)
		}
	}
	return rows
}

func firstFailure(rows []Row, failed map[*Row]error) error {
	if len(failed) == 0 {
		return nil
	}
	for i := range rows {
		if err := failed[&rows[i]]; err != nil {
			return err
		}
	}
	return nil
}
