package socket

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/jetway-project/jetway/internal/pause"
)

// Times of the stream. Tests, which see what becomes of them, have less.
var (
	// silence is how long a stream may say nothing; the server says something every 10 s.
	silence = 30 * time.Second
	// forgetAfter is how long the agent has to put an end on record.
	forgetAfter = 10 * time.Second
)

// maxMark bounds the server's name of a place in the stream, in bytes.
const maxMark = 256

// follow reads the stream until Close, and again when it breaks off.
func (r *Runtime) follow() {
	tries := pause.Growing(50*time.Millisecond, 2*time.Second)
	for {
		err := r.stream(tries.Reset)
		if r.ctx.Err() != nil {
			return
		}
		r.setAway(err)
		if !pause.Sleep(r.ctx, tries.NextBackOff()) {
			return
		}
	}
}

// stream reads one stream to its end: what was missed, the listing, and what happens.
func (r *Runtime) stream(listed func()) error {
	ctx, cancel := context.WithCancelCause(r.ctx)
	defer cancel(nil)
	quiet := time.AfterFunc(silence, func() { cancel(fmt.Errorf("nothing was heard of it for %s", silence)) })
	defer quiet.Stop()
	// Before the server is asked: what it has started by then is in its listing, or has ended.
	missing := r.known()
	resp, err := r.client.send(ctx, "events", several{Drone: r.config.Drone, After: r.read()})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return r.client.lines(ctx, "events", resp.Body, func(line []byte, more bool) (bool, error) {
		quiet.Reset(silence)
		var e event
		if err := json.Unmarshal(line, &e); err != nil || len(e.At) > maxMark {
			return false, fmt.Errorf("a line of it is not what it should be: %w: %.100q", err, line)
		}
		switch i := r.take(e); {
		case e.Listed:
			for _, i := range missing {
				i.finish(unknown)
			}
			clear(missing)
			listed()
			r.setSleeps(e.Sleeps)
			r.setAway(nil)
		case e.BackendID == "": // it is there
			r.tidy(time.Now())
		case i == nil: // it has ended, or is another run's
		case e.Ended != nil:
			delete(missing, i.id)
			i.finish(e.Ended.exit())
		case e.Line != nil:
			i.write(e.written)
		default:
			delete(missing, i.id)
			if !e.Asleep {
				i.wasWoken()
			}
		}
		if !more { // before more is waited for
			r.note()
		}
		return false, nil
	})
}

// known are the instances that a listing asked for now has to name, if they run.
func (r *Runtime) known() map[string]*Instance {
	r.mu.Lock()
	defer r.mu.Unlock()
	known := make(map[string]*Instance, len(r.live))
	for id, i := range r.live {
		if i.known {
			known[id] = i
		}
	}
	return known
}

// take notes where a line was read, and gives whom it is about, if that is looked after.
func (r *Runtime) take(e event) *Instance {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.At != "" {
		r.mark = e.At
	}
	return r.live[e.BackendID]
}

// read is up to where the stream was read.
func (r *Runtime) read() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mark
}

// setAway says why nothing can be started; nil: it can.
func (r *Runtime) setAway(err error) {
	r.mu.Lock()
	was := r.away
	r.away = err
	if (was == nil) != (err == nil) || err != nil && was.Error() != err.Error() {
		close(r.changed)
		r.changed = make(chan struct{})
	}
	r.mu.Unlock()
	switch {
	case was == nil && err != nil:
		r.config.Log.Warn("the runtime's server is away: what it runs goes on, as far as is known", "err", err)
	case was != nil && err == nil:
		r.config.Log.Info("the runtime's server is there", "socket", r.config.Path)
	}
}

// tidy does what is due now and then: it tells of lines that were dropped, and has the server
// forget what ended a while ago. What it could not be told is told the next time.
func (r *Runtime) tidy(now time.Time) {
	var forget []string
	r.mu.Lock()
	live := make([]*Instance, 0, len(r.live))
	for _, i := range r.live {
		live = append(live, i)
	}
	for id, at := range r.over {
		if now.Sub(at) >= forgetAfter {
			forget = append(forget, id)
			delete(r.over, id)
		}
	}
	r.mu.Unlock()
	for _, i := range live {
		i.notify(now)
	}
	if len(forget) == 0 {
		return
	}
	r.goOn(func() {
		var answer struct{}
		err := r.client.soon(r.ctx, "forget", several{Drone: r.config.Drone, BackendIDs: forget}, &answer)
		if err == nil {
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, id := range forget {
			r.over[id] = now
		}
	})
}

func (r *Runtime) markFile() string { return filepath.Join(r.config.StateDir, "mark") }

// note writes down how far the stream was read. A full disk costs lines passed on twice, after an
// agent that was killed.
func (r *Runtime) note() {
	if r.config.StateDir != "" {
		_ = os.WriteFile(r.markFile(), []byte(r.read()), 0o600)
	}
}
