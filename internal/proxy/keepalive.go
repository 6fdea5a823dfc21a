package proxy

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jetway-project/jetway/messages"
	"github.com/jetway-project/jetway/messages/client"
)

// arrivalRest is the least time between two words about arrivals, hurryRest about those who wait for a backend that may be asleep.
const (
	arrivalRest = 250 * time.Millisecond
	hurryRest   = 5 * time.Millisecond
)

// activity knows which backends somebody is connected to, or was since it was
// last told to the workers.
type activity struct {
	mu    sync.Mutex
	here  map[string]*presence
	ended map[string]ending // when something last closed
	count uint64            // of endings
	// known are the backends of the last full report and those that arrived since, and whether somebody was connected then, and not in silence where bytes count;
	// fresh those of them that are to be named at once.
	known map[string]knownAs
	fresh map[string]struct{}
	// arrival says that something is fresh, hurry that somebody may wait for it to wake.
	arrival, hurry chan struct{}
}

// knownAs is what the workers know of a backend by the reports.
type knownAs int

const (
	knownIdle   knownAs = iota // nobody was connected, or in silence where bytes count
	knownHere                  // somebody was
	knownAsleep                // it was put to sleep since somebody was
)

// ending is the last of a backend that the workers have not been told.
type ending struct {
	count uint64
	at    time.Time
}

// presence is who is at one backend.
type presence struct {
	open  int      // who waits for it included
	first *passage // of a list of those under way
	// pulse is that of the connections which keep the backend awake only while bytes pass; quiet are how many those are of the open ones.
	pulse pulse
	quiet int
}

func newActivity() *activity {
	return &activity{
		here: make(map[string]*presence), ended: make(map[string]ending),
		known: make(map[string]knownAs), fresh: make(map[string]struct{}),
		arrival: make(chan struct{}, 1), hurry: make(chan struct{}, 1),
	}
}

func (a *activity) opened(backend string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.openedLocked(backend, false)
}

// openedLocked is opened; sleeps says that the backend may be asleep by now if the last report named it with nobody connected, or in silence: then it wakes by being
// named as connected.
func (a *activity) openedLocked(backend string, sleeps bool) *presence {
	at := a.here[backend]
	if at == nil {
		at = new(presence)
		a.here[backend] = at
	}
	at.open++
	as, known := a.known[backend]
	if known && (as == knownHere || as == knownIdle && !sleeps) {
		return at
	}
	a.known[backend] = knownHere
	a.freshenLocked(backend, sleeps || as == knownAsleep)
	return at
}

// fellAsleep takes in that a backend was put to sleep. Who is there may have come meanwhile, and bytes may have passed: that is told once more.
func (a *activity) fellAsleep(backend string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, known := a.known[backend]; known {
		a.known[backend] = knownAsleep
	}
	if at := a.here[backend]; at != nil && (at.pulse.state.Swap(silenceSaid) == passing || at.quiet < at.open) {
		at.pulse.beat()
		a.freshenLocked(backend, true)
	}
}

// freshenLocked has a backend named at once.
func (a *activity) freshenLocked(backend string, hurry bool) {
	a.fresh[backend] = struct{}{}
	signal := a.arrival
	if hurry {
		signal = a.hurry
	}
	select {
	case signal <- struct{}{}:
	default:
	}
}

func (a *activity) closed(backend string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closedLocked(backend)
}

func (a *activity) closedLocked(backend string) {
	at := a.here[backend]
	if at.open--; at.open == 0 {
		delete(a.here, backend)
	}
	a.count++
	a.ended[backend] = ending{a.count, time.Now()}
}

// enter is opened for a passage, which can be found from now on.
func (a *activity) enter(ps *passage) {
	a.mu.Lock()
	defer a.mu.Unlock()
	at := a.openedLocked(ps.route.backend, ps.route.sleeps)
	if ps.route.bytesCount {
		if ps.pulse = &at.pulse; ps.pulse.beat() {
			a.freshenLocked(ps.route.backend, true)
		}
	}
	if ps.next = at.first; ps.next != nil {
		ps.next.prev = ps
	}
	at.first = ps
}

func (a *activity) leave(ps *passage) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if ps.next != nil {
		ps.next.prev = ps.prev
	}
	if ps.prev != nil {
		ps.prev.next = ps.next
	} else {
		a.here[ps.route.backend].first = ps.next
	}
	if ps.quiet {
		a.here[ps.route.backend].quiet--
	}
	a.closedLocked(ps.route.backend)
}

// settled notes that nobody waits for what the backend has to do for a passage: where bytes count, it keeps the backend awake from here on only by those
// that pass.
func (a *activity) settled(ps *passage) { a.settle(ps, true) }

// unsettled is the opposite.
func (a *activity) unsettled(ps *passage) { a.settle(ps, false) }

func (a *activity) settle(ps *passage, quiet bool) {
	if ps.pulse == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if at := a.here[ps.route.backend]; ps.quiet != quiet {
		if ps.quiet = quiet; quiet {
			at.quiet++
		} else {
			at.quiet--
		}
	}
}

// passed notes that bytes have passed.
func (a *activity) passed(ps *passage) {
	if ps.pulse != nil && ps.pulse.beat() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.freshenLocked(ps.route.backend, true)
	}
}

// passages gives those that are under way to backend.
func (a *activity) passages(backend string) (list []*passage) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if at := a.here[backend]; at != nil {
		list = at.appendTo(nil)
	}
	return list
}

// allPassages gives all that are under way.
func (a *activity) allPassages() (list []*passage) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, at := range a.here {
		list = at.appendTo(list)
	}
	return list
}

// passagesBy gives those that are under way, by token, of the routes that are picked.
func (a *activity) passagesBy(pick func(*route, time.Duration) bool, now time.Duration) map[string][]*passage {
	a.mu.Lock()
	defer a.mu.Unlock()
	picked := make(map[string][]*passage)
	for _, at := range a.here {
		for ps := at.first; ps != nil; ps = ps.next {
			if pick(ps.route, now) {
				picked[ps.route.token] = append(picked[ps.route.token], ps)
			}
		}
	}
	return picked
}

func (at *presence) appendTo(list []*passage) []*passage {
	for ps := at.first; ps != nil; ps = ps.next {
		list = append(list, ps)
	}
	return list
}

// report is what the workers are told, by backend.
type report map[string]stillness

// stillness is what they are told of one: 0 and 0, or for how long nothing has been connected, or for how long what is has been silent and its bytes count.
type stillness struct{ idle, silent time.Duration }

// connected gives the report on everybody, and a mark for told.
func (a *activity) connected() (all report, mark uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	all = make(report, len(a.here)+len(a.ended))
	for backend, last := range a.ended {
		all[backend] = stillness{idle: now.Sub(last.at)}
	}
	for backend, at := range a.here {
		all[backend] = at.still(now)
	}
	before := a.known
	a.known = make(map[string]knownAs, len(all))
	for backend, one := range all {
		switch {
		case one == stillness{}:
			a.known[backend] = knownHere
		case before[backend] == knownAsleep:
			a.known[backend] = knownAsleep
		default:
			a.known[backend] = knownIdle
		}
	}
	clear(a.fresh)
	return all, a.count
}

// arrived is connected of those only whom the last full report could not name, or not as connected or with bytes that pass, once.
func (a *activity) arrived() (some report, mark uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	some = make(report, len(a.fresh))
	for backend := range a.fresh {
		if at := a.here[backend]; at != nil {
			some[backend] = at.still(now)
		} else {
			some[backend] = stillness{idle: now.Sub(a.ended[backend].at)}
		}
	}
	clear(a.fresh)
	return some, a.count
}

// still is what is told of a backend to which somebody is connected.
func (at *presence) still(now time.Time) stillness {
	if at.quiet < at.open { // somebody waits for it, or his request is being answered, or bytes do not count
		at.pulse.last = now
		return stillness{}
	}
	return stillness{silent: at.pulse.silent(now)}
}

// told takes in that the workers know of these backends as of mark. What closed
// after the mark stays to be told.
func (a *activity) told(backends []string, mark uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, backend := range backends {
		if last, ok := a.ended[backend]; ok && last.count <= mark {
			delete(a.ended, backend)
		}
	}
}

// untold takes in that the workers may not know of this report: what they were to hear of bytes that passed is said again.
func (a *activity) untold(all report) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for backend, one := range all {
		if at := a.here[backend]; at != nil && one == (stillness{}) {
			at.pulse.beat()
		}
	}
}

// reportKeepalives tells the workers who is connected until ctx ends. Who has just come is
// told at once: a backend must not be ended as idle while the next report is awaited.
func (p *Proxy) reportKeepalives(ctx context.Context) {
	tick := time.NewTicker(p.cfg.KeepaliveInterval)
	defer tick.Stop()
	rest := time.NewTimer(0)
	defer rest.Stop()
	brief := time.NewTimer(0)
	defer brief.Stop()
	var arrival, hurry <-chan struct{} // nil while they rest
	for {
		select {
		case <-tick.C:
			p.tell(ctx, p.activity.connected, false)
		case <-arrival:
			p.tell(ctx, p.activity.arrived, true)
			arrival = nil
			rest.Reset(arrivalRest)
		case <-hurry:
			p.tell(ctx, p.activity.arrived, true)
			hurry = nil
			brief.Reset(hurryRest)
		case <-rest.C:
			arrival = p.activity.arrival
		case <-brief.C:
			hurry = p.activity.hurry
		case <-ctx.Done():
			return
		}
	}
}

// tell tells it once. What could not be told is told with the next full report. Also that there is
// nobody is told: what a proxy named before and does not name now is not connected any more. So
// only the last message of a full report, which comes when the others have been taken, says that all are named.
func (p *Proxy) tell(ctx context.Context, who func() (report, uint64), partial bool) {
	all, mark := who()
	chunks := slices.Collect(slices.Chunk(slices.Sorted(maps.Keys(all)), messages.MaxKeepalives))
	if len(chunks) == 0 {
		if partial { // a full report has named them meanwhile
			return
		}
		chunks = [][]string{nil}
	}
	for n, some := range chunks {
		req := messages.KeepaliveRequest{Backends: some, IdleMS: make([]int64, len(some)), Partial: partial || n < len(chunks)-1}
		for i, backend := range some {
			req.IdleMS[i] = inMS(all[backend].idle)
			if silent := all[backend].silent; silent > 0 {
				req.SilentMS = append(req.SilentMS, make([]int64, i+1-len(req.SilentMS))...)
				req.SilentMS[i] = inMS(silent)
			}
		}
		ctx, cancel := context.WithTimeout(ctx, p.cfg.LookupTimeout)
		_, err := client.RequestRaw(ctx, p.nc, messages.KeepaliveSubject(p.cfg.Name), messages.Encode(req))
		cancel()
		if err != nil {
			p.log.WarnContext(ctx, "cannot tell the workers who is connected, trying again later", "backends", len(all), "err", err)
			p.activity.untold(all)
			return
		}
		p.activity.told(some, mark)
	}
}

// inMS is how a report says for how long: 0 has a meaning of its own.
func inMS(d time.Duration) int64 {
	if d <= 0 {
		return 0
	}
	return min(max(d.Milliseconds(), 1), messages.MaxIdleMS)
}
