package drone

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/jetway-project/jetway/internal/drone/journal"
	"github.com/jetway-project/jetway/internal/pause"
	"github.com/jetway-project/jetway/messages"
	"github.com/jetway-project/jetway/messages/client"
)

const (
	// reportBytes is about how large one report may become.
	reportBytes = 256 << 10
	// linger is how long the states of a start, for which nobody waits, are held
	// back for company: that of the `ready` of most programs, which would wait for the answer to them,
	// also where a busy machine takes its time to start one.
	linger = 250 * time.Millisecond
)

// reporter tells the workers the states of backends, in order, one message at a time:
// what comes up meanwhile goes into the next. Nothing leaves it before a worker has answered for
// it (I5).
type reporter struct {
	agent *agent
	// wake tells run that there is something to send.
	wake chan struct{}

	mu sync.Mutex
	// queue has what is unanswered, what is under way in front. Only run takes off it.
	queue []journal.Unreported
	// of counts what is queued, by backend.
	of map[string]int
	// underWay is how many entries are.
	underWay int
	// oneByOne is how many entries are to be sent each alone, to find a bad one.
	oneByOne int
	// onEmpty is closed, if set, when the queue is empty.
	onEmpty chan struct{}
}

func newReporter(a *agent) *reporter {
	return &reporter{agent: a, wake: make(chan struct{}, 1), of: map[string]int{}}
}

// add queues a state, which the journal has under a mark. It does not wait.
func (r *reporter) add(report messages.Report, mark journal.Mark) {
	r.mu.Lock()
	defer r.mu.Unlock()
	entry := journal.Unreported{Mark: mark, Report: report}
	r.dropOutdatedLocked(entry)
	r.queue = append(r.queue, entry)
	r.of[report.BackendID]++
	if urgent(&entry) || len(r.queue) == 1 {
		nudge(r.wake)
	}
}

// dropOutdatedLocked drops what entry says anew: what the loading of a backend is at, or its sleep. So
// however long nobody hears, there is one such entry of each backend (I8).
func (r *reporter) dropOutdatedLocked(entry journal.Unreported) {
	loads := entry.Status == messages.Loading && entry.Message != ""
	sleeps := entry.Nap.Nap != 0 && entry.Status == messages.Ready
	if r.of[entry.BackendID] == 0 || !loads && !sleeps {
		return
	}
	waiting := r.queue[r.underWay:]
	for i := range waiting {
		if waiting[i].BackendID == entry.BackendID && waiting[i].Status == entry.Status {
			r.answeredLocked(waiting[i : i+1])
			r.queue = slices.Delete(r.queue, r.underWay+i, r.underWay+i+1)
			return
		}
	}
}

// pending are the backends with states that are not answered for.
func (r *reporter) pending() map[string]struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	ids := make(map[string]struct{}, len(r.of))
	for id := range r.of {
		ids[id] = struct{}{}
	}
	return ids
}

// has says whether states of a backend are not answered for.
func (r *reporter) has(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.of[id] > 0
}

// unanswered is how many states no worker has answered for.
func (r *reporter) unanswered() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.queue)
}

// drained gives a channel that is closed when nothing is queued.
func (r *reporter) drained() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.onEmpty == nil {
		r.onEmpty = make(chan struct{})
	}
	drained := r.onEmpty
	r.tellEmptyLocked()
	return drained
}

func (r *reporter) tellEmptyLocked() {
	if len(r.queue) == 0 && r.onEmpty != nil {
		close(r.onEmpty)
		r.onEmpty = nil
	}
}

// run sends until ctx ends.
func (r *reporter) run(ctx context.Context) {
	tries := pause.Growing(100*time.Millisecond, 2*time.Second)
	for r.await(ctx) {
		batch := r.next()
		if len(batch) == 0 { // a new session is needed meanwhile
			continue
		}
		session, err := r.send(ctx, batch)
		wait := r.settle(ctx, batch, session, err)
		if !wait {
			tries.Reset()
			continue
		}
		again := tries.NextBackOff()
		r.agent.log.WarnContext(ctx, "cannot report, trying again", "states", len(batch), "in", again.Round(time.Millisecond), "err", err)
		if !pause.Sleep(ctx, again) {
			return
		}
	}
}

// await returns true when there is something to send, false when ctx ended.
func (r *reporter) await(ctx context.Context) bool {
	lingered := false
	for {
		r.mu.Lock()
		window := r.windowLocked()
		waiting, hurried := len(window), slices.ContainsFunc(window, func(e journal.Unreported) bool { return urgent(&e) })
		r.mu.Unlock()
		if waiting > 0 && (hurried || lingered || waiting >= messages.MaxReports) {
			return ctx.Err() == nil
		}
		var up <-chan time.Time
		if waiting > 0 {
			timer := time.NewTimer(linger)
			defer timer.Stop()
			up = timer.C
		}
		select {
		case <-ctx.Done():
			return false
		case <-r.wake:
		case <-up:
			lingered = true
		}
	}
}

// windowLocked is what may be sent of the front of the queue: nothing before a worker
// knows the session, which might be told that backends are not its own.
func (r *reporter) windowLocked() []journal.Unreported {
	if !r.agent.known.Load() {
		return nil
	}
	return r.queue[:min(len(r.queue), messages.MaxReports)]
}

// next takes the next message from the front of the queue. A backend without an
// address has nothing that could be waited for in its start: if it is ready before
// its start was reported, the start is skipped.
func (r *reporter) next() []journal.Unreported {
	r.mu.Lock()
	defer r.mu.Unlock()
	window := r.windowLocked()
	instant := map[string]struct{}{}
	for i := range window {
		if window[i].Status == messages.Ready && window[i].Address == "" {
			instant[window[i].BackendID] = struct{}{}
		}
	}
	if len(instant) > 0 {
		var skipped []journal.Unreported
		kept := slices.DeleteFunc(window, func(e journal.Unreported) bool {
			_, skip := instant[e.BackendID]
			if skip = skip && e.Status < messages.Ready; skip {
				skipped = append(skipped, e)
			}
			return skip
		})
		r.answeredLocked(skipped)
		r.queue = slices.Delete(r.queue, len(kept), len(window))
		window = r.queue[:len(kept)]
	}
	n, bytes := 0, 0
	for n < len(window) && (n == 0 || r.oneByOne == 0) {
		if bytes += sizeOf(&window[n]); bytes > reportBytes && n > 0 {
			break
		}
		n++
	}
	r.underWay = n
	return slices.Clone(window[:n])
}

// urgent tells a state that somebody waits for from those of a start.
func urgent(e *journal.Unreported) bool { return e.Status >= messages.Ready }

// sizeOf is at least the length of a report in JSON, where a byte may become six.
func sizeOf(e *journal.Unreported) int {
	return 384 + 6*len(e.Message) + len(e.Traceparent) + 2*len(e.Tracestate)
}

func (r *reporter) send(ctx context.Context, batch []journal.Unreported) (session string, err error) {
	a := r.agent
	a.mu.Lock()
	session = a.session.id
	a.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, a.patience())
	defer cancel()
	reports := make([]messages.Report, len(batch))
	for i := range batch {
		reports[i] = batch[i].Report
	}
	_, err = client.Request[messages.Empty](ctx, a.nc, messages.ReportSubject(a.cfg.Name), messages.ReportRequest{Session: session, Reports: reports})
	return session, err
}

// settle does what the answer to a message asks for. wait says to try again later.
func (r *reporter) settle(ctx context.Context, batch []journal.Unreported, session string, err error) (wait bool) {
	var refused *messages.Error
	switch {
	case err == nil:
		r.logAnswered(ctx, batch)
		r.answered(len(batch))
	case !errors.As(err, &refused):
		return true
	case refused.Kind == messages.NotFound && len(refused.Backends) > 0:
		// Of these it had no right to speak: they must not run here either (I1).
		r.agent.disown(ctx, refused.Backends)
		return !r.forget(refused.Backends)
	case refused.Kind == messages.NotFound:
		r.agent.needSession(session)
		return true
	case refused.Kind == messages.BadRequest && len(batch) > 1:
		r.oneByOne = len(batch)
	case refused.Kind == messages.BadRequest:
		r.agent.log.ErrorContext(ctx, "the workers refuse a report, dropping it", "backend_id", batch[0].BackendID,
			"status", batch[0].Status.String(), "err", err)
		r.answered(1)
	default:
		return true
	}
	return false
}

func (r *reporter) logAnswered(ctx context.Context, batch []journal.Unreported) {
	if !r.agent.log.Enabled(ctx, slog.LevelDebug) {
		return
	}
	for i := range batch {
		r.agent.log.DebugContext(ctx, "the workers know a backend's state", "backend_id", batch[i].BackendID,
			"status", batch[i].Status.String(), "reason", string(batch[i].Reason))
	}
}

// answered takes n entries off the front of the queue.
func (r *reporter) answered(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.oneByOne = max(r.oneByOne-n, 0)
	r.answeredLocked(r.queue[:n])
	r.queue = slices.Delete(r.queue, 0, n)
	r.underWay = 0
	r.tellEmptyLocked()
}

// answeredLocked has the journal forget entries, which leave the queue.
func (r *reporter) answeredLocked(entries []journal.Unreported) {
	marks := make([]journal.Mark, 0, len(entries))
	for i := range entries {
		id := entries[i].BackendID
		if r.of[id]--; r.of[id] == 0 {
			delete(r.of, id)
		}
		marks = append(marks, entries[i].Mark)
	}
	r.agent.memory.journal.Answered(marks)
}

// forget drops what is queued of some backends, and says whether there was any.
func (r *reporter) forget(backends []string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	var dropped []journal.Unreported
	r.queue = slices.DeleteFunc(r.queue, func(e journal.Unreported) bool {
		drop := slices.Contains(backends, e.BackendID)
		if drop {
			dropped = append(dropped, e)
		}
		return drop
	})
	r.answeredLocked(dropped)
	r.underWay = 0
	r.tellEmptyLocked()
	return len(dropped) > 0
}
