package drone

// maxEnded bounds how many ended backends are remembered (I8); some 10 MiB.
const maxEnded = 1 << 17

// ended remembers backends that must not be spawned (any more), each for some
// time, the oldest giving way when there are too many (I3). What is forgotten too
// early is still refused by the deadlines of its spawn.
type ended struct {
	ids   map[string]struct{}
	queue []endedID // by time
}

type endedID struct {
	id      string
	untilMS int64
}

func newEnded() *ended { return &ended{ids: map[string]struct{}{}} }

// add remembers id until untilMS, which does not go down from call to call.
func (e *ended) add(id string, nowMS, untilMS int64) {
	e.forget(nowMS)
	if _, known := e.ids[id]; known {
		return
	}
	e.ids[id] = struct{}{}
	e.queue = append(e.queue, endedID{id, untilMS})
}

func (e *ended) has(id string) bool {
	_, ok := e.ids[id]
	return ok
}

func (e *ended) forget(nowMS int64) {
	n := 0
	for n < len(e.queue) && (e.queue[n].untilMS <= nowMS || len(e.queue)-n >= maxEnded) {
		delete(e.ids, e.queue[n].id)
		n++
	}
	e.queue = e.queue[n:] // append moves what is left when it has run out of room
}
