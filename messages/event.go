package messages

import (
	"strconv"
	"strings"
	"time"
)

// Types of events.
const (
	TypeBackendState    = "io.jetway.backend.v1.state"
	TypeTokenRevoked    = "io.jetway.token.v1.revoked"
	TypeDroneDraining   = "io.jetway.drone.v1.draining"
	TypeDroneUndrained  = "io.jetway.drone.v1.undrained"
	TypeDroneRegistered = "io.jetway.drone.v1.registered" // or heard from again after it was lost
	TypeDroneForgotten  = "io.jetway.drone.v1.forgotten"  // an operator had it forgotten
	TypeDroneLost       = "io.jetway.drone.v1.lost"       // not heard from for as long as a lease lives
)

// StateEvent says that a backend reached a state ([BackendEventSubject]). For one
// backend Number only goes up, and its ID is made of the two, so that a reader
// can order and deduplicate.
type StateEvent struct {
	Type      string    `json:"type"`
	ID        string    `json:"id"`
	Time      time.Time `json:"time"`
	BackendID string    `json:"backend_id"`
	Number    int       `json:"number"`
	// FencingToken is that of the backend's lease; left out by workers that do not say it yet.
	FencingToken int64 `json:"fencing_token,omitempty"`
	// Template is what the backend was asked for by, if it was; the event of scheduled alone says it.
	Template string `json:"template,omitempty"`
	// Resumes is the backend whose life this one's goes on; the event of scheduled alone says it.
	Resumes string `json:"resumes,omitempty"`
	// DormantUntil is until when the key is dormant; the event of terminated alone says it.
	DormantUntil *time.Time `json:"dormant_until,omitempty"`
	State
}

// NewStateEvent puts an event together.
func NewStateEvent(backend string, at time.Time, state State) StateEvent {
	return StateEvent{
		Type:      TypeBackendState,
		ID:        StateEventID(backend, state.Status),
		Time:      at.UTC(),
		BackendID: backend,
		Number:    int(state.Status),
		State:     state,
	}
}

// StateEventID is the same for every copy of an event: a backend reaches each
// status at most once.
func StateEventID(backend string, status Status) string {
	return backend + "." + strconv.Itoa(int(status))
}

// StatusOfEvent reads the status out of the id of a state event, which is also its
// message id on the bus: who cares for some statuses only need not read the others.
func StatusOfEvent(id string) (status Status, ok bool) {
	n, err := strconv.Atoi(id[strings.LastIndexByte(id, '.')+1:])
	return Status(n), err == nil
}

// SpawnID is the id of the action that spawns a backend.
func SpawnID(backend string) string { return backend + ".spawn" }

// SpawnAgainID is the id of the action that spawns a backend on another drone, after
// so many did not take it: one that JETWAY_ACTIONS does not take for a copy.
func SpawnAgainID(backend string, refusals int) string {
	if refusals == 0 {
		return SpawnID(backend)
	}
	return SpawnID(backend) + "-" + strconv.Itoa(refusals+1)
}

// TerminateID is the id of the action that ends a backend softly or hard.
func TerminateID(backend string, hard bool) string {
	if hard {
		return backend + ".terminate-hard"
	}
	return backend + ".terminate-soft"
}

// DroneEvent says what happened to a drone ([DroneEventSubject]).
type DroneEvent struct {
	Type    string    `json:"type"`
	ID      string    `json:"id"`
	Time    time.Time `json:"time"`
	Drone   string    `json:"drone"`
	Session string    `json:"session"`
	Cluster string    `json:"cluster"`
	Pool    string    `json:"pool,omitempty"`
}

// TokenEvent says that connection tokens of a backend were revoked ([TokenEventSubject]):
// those of User, where it is set, and the one with this hash, where it is.
type TokenEvent struct {
	Type      string    `json:"type"`
	ID        string    `json:"id"`
	Time      time.Time `json:"time"`
	BackendID string    `json:"backend_id"`
	User      *string   `json:"user,omitempty"`
	// TokenSHA256 is the hash of the token in hexadecimal digits.
	TokenSHA256 string `json:"token_sha256,omitempty"`
}

// The streams of output lines.
const (
	StreamStdout = "stdout"
	StreamStderr = "stderr"
	StreamDrone  = "drone" // what the drone itself has to say
)

// LogLine is one line of a backend's output ([LogSubject]).
type LogLine struct {
	Time time.Time `json:"time"`
	// Stream is stdout, stderr or drone.
	Stream string `json:"stream"`
	// Line is without its end; at most MaxLine bytes. It may hold control characters.
	Line string `json:"line"`
}

func (l *LogLine) validate() *Error {
	switch l.Stream {
	case StreamStdout, StreamStderr, StreamDrone:
	default:
		return badField("stream", "must be stdout, stderr or drone")
	}
	if len(l.Line) > MaxLine {
		return badField("line", "is %d bytes long, at most %d are allowed", len(l.Line), MaxLine)
	}
	return nil
}

// StatsEvery is how often a drone says what its backends use.
const StatsEvery = 10 * time.Second

// Stats is what one backend uses of its machine ([StatsSubject]), every [StatsEvery].
// The fields are named as in Plane; memory is in bytes, 0 where the runtime cannot tell.
type Stats struct {
	BackendID string    `json:"backend_id"`
	Time      time.Time `json:"time"`
	// MemUsed is what counts against the limit, without file cache that is not in use.
	MemUsed        uint64 `json:"mem_used"`
	MemActive      uint64 `json:"mem_active"`
	MemInactive    uint64 `json:"mem_inactive"`
	MemUnevictable uint64 `json:"mem_unevictable"`
	// MemLimit is 0 where there is none.
	MemLimit uint64 `json:"mem_limit"`
	// CPUUsed and SysCPU are processor time in nanoseconds since the last message: used
	// by the backend, and of the machine, of all its processors, busy or idle.
	CPUUsed uint64 `json:"cpu_used"`
	SysCPU  uint64 `json:"sys_cpu"`
}

func (s *Stats) validate() *Error { return checkID("backend_id", s.BackendID) }

func (e *TokenEvent) validate() *Error {
	if e.Type != TypeTokenRevoked {
		return badField("type", "%.60q is not of a token", e.Type)
	}
	if e.User == nil && e.TokenSHA256 == "" {
		return badField("user", "or token_sha256 must be there")
	}
	return checkID("backend_id", e.BackendID)
}

func (e *StateEvent) validate() *Error {
	if e.Type != TypeBackendState {
		return badField("type", "%.60q is not a backend's state", e.Type)
	}
	if err := checkID("backend_id", e.BackendID); err != nil {
		return err
	}
	if e.Number != int(e.Status) {
		return badField("number", "is not that of the status")
	}
	return e.State.validate()
}
