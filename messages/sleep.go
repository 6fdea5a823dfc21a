package messages

import (
	"strconv"
	"time"
)

// SubjectSleep and SubjectWake are asked by operators ([NapRequest]).
const (
	SubjectSleep = "jetway.ctl.sleep"
	SubjectWake  = "jetway.ctl.wake"
)

// Types of actions and events of sleep. A sleeping backend is frozen where it is: it keeps its key, its lease and its status.
const (
	TypeSleep  = "io.jetway.action.v1.sleep"
	TypeWake   = "io.jetway.action.v1.wake"
	TypeAsleep = "io.jetway.backend.v1.asleep"
	TypeAwake  = "io.jetway.backend.v1.awake"
)

// SubjectAnySleepEvent is where the events of all backends that fall asleep and wake are heard.
const SubjectAnySleepEvent = "jetway.event.sleep.*"

// SleepEventSubject carries when one backend falls asleep and wakes.
func SleepEventSubject(backend string) string { return "jetway.event.sleep." + backend }

// maxNap bounds naps such that every reader of JSON has them exact.
const maxNap = 1<<53 - 1

// AsleepAt says whether a backend is to be asleep at a nap. Naps count a backend's changes between awake and asleep, from 0, awake: so the odd
// ones are those asleep.
func AsleepAt(nap int64) bool { return nap%2 == 1 }

// NapID is the id of the action, and of the event, of one change between awake and asleep.
func NapID(backend string, nap int64) string {
	return backend + ".nap-" + strconv.FormatInt(nap, 10)
}

// SleepEvent says that a backend fell asleep, or woke ([SleepEventSubject]): that the workers want it so. Nap only rises.
type SleepEvent struct {
	Type      string    `json:"type"`
	ID        string    `json:"id"`
	Time      time.Time `json:"time"`
	BackendID string    `json:"backend_id"`
	Nap       int64     `json:"nap"`
}

// NewSleepEvent puts an event together.
func NewSleepEvent(backend string, at time.Time, nap int64) SleepEvent {
	e := SleepEvent{Type: TypeAwake, ID: NapID(backend, nap), Time: at.UTC(), BackendID: backend, Nap: nap}
	if AsleepAt(nap) {
		e.Type = TypeAsleep
	}
	return e
}

// NewNapAction puts the action of a change between awake and asleep together.
func NewNapAction(backend string, at time.Time, nap int64) Action {
	a := Action{Type: TypeWake, ID: NapID(backend, nap), Time: at.UTC(), BackendID: backend, Nap: nap}
	if AsleepAt(nap) {
		a.Type = TypeSleep
	}
	return a
}

// Nap is what a drone says of a backend's sleep.
type Nap struct {
	// Nap is the greatest that the drone has applied; 0: none yet.
	Nap int64 `json:"nap,omitempty"`
	// Asleep says that the backend is frozen at this moment. A drone may thaw one by itself, when in doubt: then Nap is odd and Asleep false, and
	// the workers take it as awake, with the next nap. Asleep with an even nap there is not.
	Asleep bool `json:"asleep,omitempty"`
	// ReclaimedBytes is the memory that the machine got back from it during this nap.
	ReclaimedBytes int64 `json:"reclaimed_bytes,omitempty"`
}

// NapRequest asks for a backend to be put to sleep, or to be woken. Again is no error.
type NapRequest struct {
	BackendID string `json:"backend_id"`
}

// NapResponse says what the backend is from now on.
type NapResponse struct {
	Asleep bool  `json:"asleep"`
	Nap    int64 `json:"nap"`
}

func (r *NapRequest) validate() *Error { return checkID("backend_id", r.BackendID) }

func (e *SleepEvent) validate() *Error {
	if err := checkNap("nap", e.Nap); err != nil {
		return err
	}
	want := NewSleepEvent(e.BackendID, e.Time, e.Nap)
	if e.Type != want.Type || e.Nap == 0 {
		return badField("type", "%.60q is not that of nap %d", e.Type, e.Nap)
	}
	return checkID("backend_id", e.BackendID)
}

func (n *Nap) validate() *Error {
	if err := checkNap("nap", n.Nap); err != nil {
		return err
	}
	switch {
	case n.Asleep && !AsleepAt(n.Nap):
		return badField("asleep", "goes with an odd nap, and %d is even", n.Nap)
	case n.ReclaimedBytes < 0 || n.ReclaimedBytes > maxPromise:
		return badField("reclaimed_bytes", "must be 0 to %d", int64(maxPromise))
	}
	return nil
}

func checkNap(field string, nap int64) *Error {
	if nap < 0 || nap > maxNap {
		return badField(field, "must be 0 to %d", int64(maxNap))
	}
	return nil
}

// CheckSleepAfter refuses a spawn_config whose limits, those of its template among them, end the backend before it would sleep.
func (c *SpawnConfig) CheckSleepAfter() error { return asError(c.checkSleepAfter()) }

// checkSleepAfter: what falls asleep must not have ended before.
func (c *SpawnConfig) checkSleepAfter() *Error {
	const field = "spawn_config.sleep_after_seconds"
	if err := checkSeconds(field, c.SleepAfterSeconds); err != nil {
		return err
	}
	if c.SleepAfterSeconds == nil {
		if c.SleepIgnoresIdleConnections {
			return badField("spawn_config.sleep_ignores_idle_connections", "goes with sleep_after_seconds, which is missing: without it a backend does not sleep")
		}
		return nil
	}
	for _, end := range []struct {
		field string
		after *int64
	}{{"max_idle_seconds", c.MaxIdleSeconds}, {"lifetime_limit_seconds", c.LifetimeLimitSeconds}} {
		if end.after != nil && *c.SleepAfterSeconds >= *end.after {
			return badField(field, "is %d, and the backend ends after %s, which is %d: sleep earlier than that, or leave it out", *c.SleepAfterSeconds, end.field, *end.after)
		}
	}
	return nil
}
