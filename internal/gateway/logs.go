package gateway

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jetway-project/jetway/messages"
	"github.com/jetway-project/jetway/messages/client"
)

// Lines are the last lines of a backend's output.
type Lines struct {
	Lines []messages.LogLine `json:"lines"`
}

// logs gives the last lines, or follows them as a stream until the backend has ended.
func (c *call) logs() (any, error) {
	info, err := c.owned(c.r.PathValue("backend"))
	if err != nil {
		return nil, err
	}
	tail := -1
	if text := c.r.URL.Query().Get("tail"); text != "" {
		if tail, err = strconv.Atoi(text); err != nil || tail < 0 {
			return nil, messages.Errorf(messages.BadRequest, "tail: must be a number, 0 or more, not %.40q", text)
		}
	}
	if c.wantsStream() {
		return c.streamLogs(info, tail)
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), c.timeout)
	defer cancel()
	all := Lines{Lines: []messages.LogLine{}}
	for line, err := range client.New(c.g.nc).Logs(ctx, client.Logs{Backend: info.BackendID, Tail: tail}) {
		if err != nil {
			return nil, err
		}
		all.Lines = append(all.Lines, line)
	}
	return all, nil
}

func (c *call) wantsStream() bool {
	return strings.Contains(c.r.Header.Get("Accept"), "text/event-stream")
}

// streamLogs follows. A line has no number: its id is its time, and which of the lines of that time it is.
func (c *call) streamLogs(info messages.BackendInfo, tail int) (any, error) {
	after, skip := logPlace(c.r.Header.Get("Last-Event-ID"))
	if skip > 0 {
		tail = -1
	}
	w := c.watch(info.BackendID)
	sofar, err := c.g.begin(c.r.Context(), w, 0)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(c.r.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	defer c.g.hub.leave(w)
	c.g.metrics.Streams(1)
	defer c.g.metrics.Streams(-1)
	ended := make(chan struct{})
	if n := len(sofar); info.Status == messages.Terminated || n > 0 && sofar[n-1].event.Status == messages.Terminated {
		close(ended)
	} else {
		running.Go(func() {
			for f := range w.queue {
				if f.event.Status == messages.Terminated {
					close(ended)
					return
				}
			}
			cancel() // cut
		})
	}
	s, err := c.openStream(false)
	if err != nil {
		return nil, handledError{}
	}
	lines, failed := make(chan messages.LogLine), error(nil)
	running.Go(func() {
		defer close(lines)
		for line, err := range client.New(c.g.nc).Logs(ctx, client.Logs{Backend: info.BackendID, Tail: tail, Since: after, Ended: ended}) {
			if failed = err; err != nil {
				return
			}
			select {
			case lines <- line:
			case <-ctx.Done():
				return
			}
		}
	})
	tick := time.NewTicker(c.g.cfg.waits.comment)
	defer tick.Stop()
	at, nth := time.Time{}, 0
	for {
		select {
		case <-ctx.Done():
			return nil, handledError{}
		case <-tick.C:
			err = s.send(comment)
		case line, ok := <-lines:
			if !ok {
				if failed == nil {
					_ = s.send([]byte("event: end\ndata: {}\n\n"))
				}
				return nil, handledError{}
			}
			if nth++; !line.Time.Equal(at) {
				at, nth = line.Time, 1
			}
			if at.Equal(after) && nth <= skip {
				continue
			}
			err = s.send(fmt.Appendf(nil, "id: %s.%d\ndata: %s\n\n", strconv.FormatInt(at.UnixNano(), 10), nth, messages.Encode(&line)))
		}
		if err != nil {
			return nil, handledError{}
		}
	}
}

// logPlace reads the id of a line.
func logPlace(id string) (at time.Time, nth int) {
	nanos, number, _ := strings.Cut(id, ".")
	n, err := strconv.ParseInt(nanos, 10, 64)
	if err != nil {
		return time.Time{}, 0
	}
	if nth, err = strconv.Atoi(number); err != nil || nth < 1 {
		return time.Time{}, 0
	}
	return time.Unix(0, n).UTC(), nth
}

// events gives a backend's events, or streams them.
func (c *call) events() (any, error) {
	info, err := c.owned(c.r.PathValue("backend"))
	if err != nil {
		return nil, err
	}
	if c.wantsStream() {
		after := 0
		if _, event, ok := parseID(c.r.Header.Get("Last-Event-ID")); ok && strings.HasPrefix(event, info.BackendID+".") {
			status, _ := messages.StatusOfEvent(event)
			after = int(status)
		}
		return c.streamOne(info.BackendID, after, (*frame).v1)
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), c.timeout)
	defer cancel()
	events, err := client.New(c.g.nc).History(ctx, info.BackendID)
	return Events{Events: events}, err
}

// Events are what has become of a backend so far.
type Events struct {
	Events []messages.StateEvent `json:"events"`
}

// allEvents streams what becomes of all backends.
func (c *call) allEvents() (any, error) {
	if !c.wantsStream() && c.r.Header.Get("Accept") != "" && !strings.Contains(c.r.Header.Get("Accept"), "*/*") {
		return nil, messages.Errorf(messages.BadRequest, "Accept: this is a stream, text/event-stream")
	}
	if c.r.Method == http.MethodHead {
		c.w.Header().Set("Content-Type", "text/event-stream")
		c.status = http.StatusOK
		c.w.WriteHeader(http.StatusOK)
		return nil, handledError{}
	}
	return c.streamAll()
}
