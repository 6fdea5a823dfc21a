package gateway

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/messages"
	"github.com/jetway-project/jetway/messages/client"
)

const (
	// ringSize is how many of the last events are kept for who comes just then, or comes back.
	ringSize = 2048
	// A backend has eight states; the rest is room for notices.
	queueOfOne = 16
	queueOfAll = 320
)

// frame is one event, or a notice of the hub's, as all watchers are sent it. It is written once.
type frame struct {
	event messages.StateEvent
	// sleep is the event of a backend that falls asleep or wakes; event then has its ids, and no state.
	sleep *messages.SleepEvent
	place uint64
	// again says that events may have been missed: a worker knows.
	again bool

	once, planeOnce sync.Once
	text, planeText []byte
}

// id is what a client names to go on after this event: its place in the stream, and what was there.
func (f *frame) id() string { return strconv.FormatUint(f.place, 10) + "." + f.event.ID }

// v1 is the event as /v1 sends it; a notice is text from the start.
func (f *frame) v1() []byte {
	f.once.Do(func() {
		switch {
		case f.sleep != nil:
			f.text = f.sleepText()
		case f.text == nil:
			f.text = fmt.Appendf(nil, "id: %s\ndata: %s\n\n", f.id(), messages.Encode(&f.event))
		}
	})
	return f.text
}

func notice(name, data string) *frame {
	return &frame{text: fmt.Appendf(nil, "event: %s\ndata: %s\n\n", name, data)}
}

// parseID reads a frame's id.
func parseID(id string) (place uint64, event string, ok bool) {
	number, event, ok := strings.Cut(id, ".")
	if !ok || event == "" || len(id) > 128 {
		return 0, "", false
	}
	place, err := strconv.ParseUint(number, 10, 64)
	return place, event, err == nil
}

// hub has the gateway's one subscription, and its watchers.
type hub struct {
	most  int
	onCut func()

	mu     sync.Mutex
	live   bool
	closed bool
	ring   []*frame // the last ringSize, from the oldest on
	all    map[*watcher]struct{}
	of     map[string]map[*watcher]struct{}
	open   int
	askers map[string]int
	began  chan struct{} // closed when the subscription is there
}

// watcher is one who watches a backend, or all of them. What waits for it is bounded: who does not read is cut.
type watcher struct {
	backend string // "": all
	asker   string
	who     *who
	queue   chan *frame // closed when the watcher is cut
	joined  bool
}

func newHub(most int, onCut func()) *hub {
	return &hub{most: most, onCut: onCut, all: make(map[*watcher]struct{}), of: make(map[string]map[*watcher]struct{}), askers: make(map[string]int), began: make(chan struct{})}
}

// begin says that all that happens from now on is given.
func (h *hub) begin() {
	h.mu.Lock()
	defer h.mu.Unlock()
	select {
	case <-h.began:
	default:
		close(h.began)
	}
}

// await waits for that: before it, what is not in the history might not be given either.
func (h *hub) await(ctx context.Context, limit time.Duration) error {
	select {
	case <-h.began:
		return nil
	default:
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-h.began:
		return nil
	case <-timer.C:
		return messages.Errorf(messages.Unavailable, "the gateway does not hear the bus yet: has a worker run on it?")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run takes the events until ctx ends, then cuts all watchers.
func (h *hub) run(ctx context.Context, nc *nats.Conn) {
	defer h.close()
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { h.watchConnection(ctx, nc) })
	wait := backoff.NewExponentialBackOff(backoff.WithInitialInterval(100*time.Millisecond), backoff.WithMaxInterval(2*time.Second), backoff.WithMaxElapsedTime(0))
	_ = backoff.Retry(func() error {
		for event, err := range client.New(nc).WatchAllPlaced(ctx, h.begin) {
			if err != nil {
				return err // the stream is not there yet
			}
			wait.Reset()
			h.give(&frame{event: event.StateEvent, sleep: event.Sleep, place: event.Place})
		}
		return ctx.Err()
	}, backoff.WithContext(wait, ctx))
}

// watchConnection tells watchers when what they see is old, and when it is not.
func (h *hub) watchConnection(ctx context.Context, nc *nats.Conn) {
	status := nc.StatusChanged(nats.CONNECTED, nats.RECONNECTING, nats.DISCONNECTED, nats.CLOSED)
	defer nc.RemoveStatusListener(status)
	h.setLive(nc.IsConnected())
	for {
		select {
		case <-ctx.Done():
			return
		case <-status:
			h.setLive(nc.IsConnected())
		}
	}
}

func liveNotice(live bool) *frame {
	f := notice("live", `{"live":`+strconv.FormatBool(live)+`}`)
	f.again = live
	return f
}

func (h *hub) setLive(live bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.live == live {
		return
	}
	h.live = live
	f := liveNotice(live)
	for w := range h.all {
		h.send(w, f)
	}
	for _, watchers := range h.of {
		for w := range watchers {
			h.send(w, f)
		}
	}
}

// give has all watchers of an event be sent it.
func (h *hub) give(f *frame) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.ring) == 2*ringSize {
		h.ring = append(h.ring[:0], h.ring[ringSize:]...)
	}
	h.ring = append(h.ring, f)
	for w := range h.all {
		h.send(w, f)
	}
	for w := range h.of[f.event.BackendID] {
		h.send(w, f)
	}
}

// send never waits. Under the lock.
func (h *hub) send(w *watcher, f *frame) {
	select {
	case w.queue <- f:
	default:
		h.remove(w)
		h.onCut()
	}
}

// remove cuts a watcher. Under the lock.
func (h *hub) remove(w *watcher) {
	if !w.joined {
		return
	}
	w.joined = false
	close(w.queue)
	if w.backend == "" {
		delete(h.all, w)
	} else if delete(h.of[w.backend], w); len(h.of[w.backend]) == 0 {
		delete(h.of, w.backend)
	}
	h.open--
	if h.askers[w.asker]--; h.askers[w.asker] <= 0 {
		delete(h.askers, w.asker)
	}
}

// leave ends a watcher, cut or not.
func (h *hub) leave(w *watcher) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.remove(w)
}

// cutWhere cuts those of some.
func (h *hub) cutWhere(is func(*who) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for w := range h.all {
		if is(w.who) {
			h.remove(w)
		}
	}
	for _, watchers := range h.of {
		for w := range watchers {
			if is(w.who) {
				h.remove(w)
			}
		}
	}
}

func (h *hub) close() {
	h.cutWhere(func(*who) bool { return true })
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
}

func (h *hub) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.open
}

// join adds a watcher, and gives the last events that are of its backend, or of all that came after the one with the id
// after; found says whether that one is among the last.
func (h *hub) join(w *watcher, after string) (last []*frame, found bool, err error) {
	w.queue = make(chan *frame, queueOfOne)
	if w.backend == "" {
		w.queue = make(chan *frame, queueOfAll)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.closed:
		return nil, false, messages.Errorf(messages.Unavailable, "the gateway is stopping")
	case h.open >= h.most:
		return nil, false, messages.Errorf(messages.Overloaded, "the gateway serves %d streams, and no more", h.most)
	case h.askers[w.asker] >= (h.most+1)/2:
		return nil, false, messages.Errorf(messages.Overloaded, "one asker has %d streams, and no more", h.askers[w.asker])
	}
	w.joined = true
	h.open++
	h.askers[w.asker]++
	if w.backend != "" {
		if h.of[w.backend] == nil {
			h.of[w.backend] = make(map[*watcher]struct{})
		}
		h.of[w.backend][w] = struct{}{}
		for _, f := range h.ring {
			if f.event.BackendID == w.backend {
				last = append(last, f)
			}
		}
		return last, false, nil
	}
	h.all[w] = struct{}{}
	if after == "" {
		return nil, true, nil
	}
	for i, f := range h.ring {
		if f.id() == after {
			return append(last, h.ring[i+1:]...), true, nil
		}
	}
	return append(last, h.ring...), false, nil
}

// isLive says whether what watchers see is of now.
func (h *hub) isLive() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.live
}
