package cli

import (
	"context"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/messages"
	"github.com/jetway-project/jetway/messages/client"
)

// watchCmd is `jetway watch`.
type watchCmd struct {
	clientFlags
	which
}

// Help is part of jetway watch --help.
func (c *watchCmd) Help() string {
	return `It shows the states that the backend has had, and follows it until it has ended; that it falls asleep and wakes is shown as it happens. Without a backend, it shows the states of all backends from now on.

Examples:
  jetway watch --key doc-1
  jetway watch --json | jq -r 'select(.status == "terminated") | .backend_id'`
}

// Run shows events until the backend has ended or the user stops it.
func (c *watchCmd) Run(r *run) error {
	if err := c.check(false); err != nil {
		return err
	}
	nc, err := c.clientFlags.open(r)
	if err != nil {
		return err
	}
	defer nc.Close()
	if err := c.find(r, &c.clientFlags, nc); err != nil {
		return err
	}
	events := client.New(nc).WatchAll(r.ctx)
	if c.Backend != "" {
		ended, err := printEnded(r, &c.clientFlags, nc, c.Backend, messages.Scheduled)
		if err != nil || ended {
			return seenEnough(r, err)
		}
		events = watchProgress(r, &c.clientFlags, nc, c.Backend)
	}
	var mu sync.Mutex // of what is printed
	stop, err := c.printNaps(r, nc, &mu)
	if err != nil {
		return err
	}
	defer stop()
	for event, err := range events {
		if err != nil {
			return seenEnough(r, err)
		}
		mu.Lock()
		r.printEvent(event, c.JSON, c.Backend == "")
		mu.Unlock()
	}
	return nil
}

// printEnded asks for a backend. Has it ended, its states from a number on are
// printed: what the stream of events still holds, and the last one in any case.
// So nobody waits for an event that is long forgotten. A worker that does not
// answer is no error here: events come without one.
func printEnded(r *run, f *clientFlags, nc *nats.Conn, backend string, from messages.Status) (bool, error) {
	info, err := ask[messages.BackendInfo](r, f, nc, messages.SubjectStatus, messages.StatusRequest{BackendID: backend})
	if messages.KindOf(err) == messages.Unavailable {
		r.log.Warn("no worker answers, events only", "err", err)
		return false, nil
	}
	if err != nil || info.Status != messages.Terminated {
		return false, err
	}
	ctx, cancel := context.WithTimeout(r.ctx, f.Timeout)
	defer cancel()
	events, err := client.New(nc).History(ctx, backend)
	if err != nil {
		return false, err
	}
	if n := len(events); n == 0 || events[n-1].Status != messages.Terminated {
		events = append(events, messages.NewStateEvent(backend, info.ChangedAt, info.State))
	}
	for _, event := range events {
		if event.Status >= from {
			r.printEvent(event, f.JSON, false)
		}
	}
	return true, nil
}
