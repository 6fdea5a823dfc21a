package cli

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/messages"
)

// logsCmd is `jetway logs`.
type logsCmd struct {
	clientFlags
	which
	Follow     bool   `short:"f" help:"Follow the output until the backend has ended."`
	Tail       string `short:"n" default:"all" placeholder:"N" help:"Show the last N lines only. NATS keeps the last 200 of a backend, for an hour."`
	Since      string `placeholder:"TIME" help:"Show newer lines only: a duration such as 10m, a time such as 2026-01-02T15:04:05Z, or seconds since 1970."`
	Timestamps bool   `short:"t" help:"Put the time in front of each line."`
}

// Run shows output lines. What the backend wrote to standard error goes to standard error, and so do the notices of its drone.
func (c *logsCmd) Run(r *run) error {
	var what bus.Logs
	var err error
	if what.Tail, err = tailOf(c.Tail); err != nil {
		return err
	}
	if what.Since, err = sinceOf(c.Since, r.now()); err != nil {
		return err
	}
	nc, err := c.which.open(r, &c.clientFlags)
	if err != nil {
		return err
	}
	defer nc.Close()
	what.Backend = c.Backend
	info, err := ask[messages.BackendInfo](r, &c.clientFlags, nc, messages.SubjectStatus, messages.StatusRequest{BackendID: c.Backend})
	switch {
	case messages.KindOf(err) == messages.Unavailable:
		r.log.Warn("no worker answers, showing what lines there are", "err", err)
	case err != nil:
		return err
	}
	if c.Follow && info.Status != messages.Terminated {
		var stop func()
		what.Ended, stop = endOf(r, nc, c.Backend)
		defer stop()
	}
	shown := 0
	for line, err := range bus.Lines(r.ctx, nc, what) {
		if err != nil {
			return seenEnough(r, err)
		}
		c.print(r, &line)
		shown++
	}
	if shown == 0 && !c.JSON {
		r.notef("jetway: no such lines of %s are kept: only the last 200 are, for an hour", c.Backend)
	}
	return nil
}

func (c *logsCmd) print(r *run, line *messages.LogLine) {
	if c.JSON {
		r.printJSON(line)
		return
	}
	text := line.Line
	if line.Stream == messages.StreamDrone {
		text = "[drone] " + text
	}
	if c.Timestamps {
		text = line.Time.Format(time.RFC3339Nano) + " " + text
	}
	if line.Stream == messages.StreamStdout {
		r.printf("%s\n", text)
	} else {
		_, _ = fmt.Fprintln(r.stderr, text)
	}
}

// endOf gives a channel that is closed when a backend has ended. The caller calls stop.
func endOf(r *run, nc *nats.Conn, backend string) (ended <-chan struct{}, stop func()) {
	ctx, cancel := context.WithCancel(r.ctx)
	closed := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for event, err := range bus.Watch(ctx, nc, backend) {
			switch {
			case err == nil && event.Status == messages.Terminated, messages.KindOf(err) == messages.NotFound:
				close(closed)
				return
			case err != nil && ctx.Err() == nil:
				r.log.Warn("cannot follow the backend's states, so its end goes unseen", "err", err)
				return
			}
		}
	})
	return closed, func() { cancel(); wg.Wait() }
}

// tailOf reads how many lines are wanted; negative: all.
func tailOf(text string) (int, error) {
	if text == "all" {
		return -1, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0, usagef("--tail: must be a number of lines, or all, not %q", text)
	}
	return n, nil
}

// sinceOf reads a time, or how long ago it was.
func sinceOf(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	if seconds, err := strconv.ParseInt(text, 10, 64); err == nil && seconds >= 0 {
		return time.Unix(seconds, 0), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02"} {
		if at, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return at, nil
		}
	}
	return time.Time{}, usagef("--since: must be a duration such as 10m, a time such as 2026-01-02T15:04:05Z, or seconds since 1970, not %q", text)
}
