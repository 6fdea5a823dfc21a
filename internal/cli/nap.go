package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/messages"
)

// napFlags are those of sleep and wake.
type napFlags struct {
	clientFlags
	which
}

// sleepCmd is `jetway sleep`.
type sleepCmd struct{ napFlags }

// wakeCmd is `jetway wake`.
type wakeCmd struct{ napFlags }

// Help is part of jetway sleep --help.
func (c *sleepCmd) Help() string {
	return `A backend that sleeps is frozen where it is: it uses no processor, and keeps its key and its URL. It wakes when somebody visits it, within milliseconds; who is connected wakes it within 10 s. Only a backend that is ready sleeps. connect --sleep-after has backends sleep by themselves.

Examples:
  jetway sleep b-1
  jetway sleep --key doc-1`
}

// Run puts a backend to sleep.
func (c *sleepCmd) Run(r *run) error { return c.ask(r, messages.SubjectSleep) }

// Run wakes a backend.
func (c *wakeCmd) Run(r *run) error { return c.ask(r, messages.SubjectWake) }

func (c *napFlags) ask(r *run, subject string) error {
	nc, err := c.which.open(r, &c.clientFlags)
	if err != nil {
		return err
	}
	defer nc.Close()
	reply, err := ask[messages.NapResponse](r, &c.clientFlags, nc, subject, messages.NapRequest{BackendID: c.Backend})
	switch {
	case err != nil:
		return err
	case c.JSON:
		return r.printIndented(reply)
	case reply.Asleep:
		r.printf("%s sleeps (nap %d)\n", c.Backend, reply.Nap)
	default:
		r.printf("%s is awake (nap %d)\n", c.Backend, reply.Nap)
	}
	return nil
}

// statusText is a backend's status as lists show it.
func statusText(b *messages.BackendInfo) string {
	if b.Asleep {
		return b.Status.String() + ", asleep"
	}
	return b.Status.String()
}

// printNaps prints, until it is stopped, that backends fall asleep and wake.
func (c *watchCmd) printNaps(r *run, nc *nats.Conn, mu *sync.Mutex) (stop func(), err error) {
	sub, err := nc.SubscribeSync(messages.SleepEventSubject(cmp.Or(c.Backend, "*")))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(r.ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			msg, err := sub.NextMsgWithContext(ctx)
			if errors.Is(err, nats.ErrSlowConsumer) {
				continue
			}
			if err != nil {
				return
			}
			event, err := messages.Decode[messages.SleepEvent](msg.Data)
			if err != nil {
				continue
			}
			mu.Lock()
			r.printNap(event, c.JSON, c.Backend == "")
			mu.Unlock()
		}
	})
	return func() { cancel(); wg.Wait() }, nil
}

// printNap prints one event of sleep, as printEvent does a state.
func (r *run) printNap(e messages.SleepEvent, asJSON, wide bool) {
	if asJSON {
		r.printJSON(e)
		return
	}
	line := e.Time.Local().Format("15:04:05.000") + "  "
	if wide {
		line += fmt.Sprintf("%-14s  ", e.BackendID)
	}
	what := "awake"
	if messages.AsleepAt(e.Nap) {
		what = "asleep"
	}
	r.printf("%s%-16s  nap %d\n", line, what, e.Nap)
}
