package messages

import (
	"encoding/json"
	"strconv"
	"time"
)

// MaxGrace is the longest grace of a drone.
const MaxGrace = 24 * time.Hour

// Types of actions.
const (
	TypeSpawn     = "io.jetway.action.v1.spawn"
	TypeTerminate = "io.jetway.action.v1.terminate"
)

// Deadlines of a session's lease, in the drone's own boot-time milliseconds. Each counts
// from a time that the drone stated before the database wrote the lease, so a
// process is dead before its key can go to another.
type Deadlines struct {
	RenewAtMS         int64 `json:"renew_at_ms"`
	SoftTerminateAtMS int64 `json:"soft_terminate_at_ms"`
	HardTerminateAtMS int64 `json:"hard_terminate_at_ms"`
}

// Action tells a drone to do something, once, however often it is delivered
// ([ActionSubject]). Its ID is the same on every delivery.
type Action struct {
	Type      string    `json:"type"`
	ID        string    `json:"id"`
	Time      time.Time `json:"time"`
	BackendID string    `json:"backend_id"`
	// Spawn is set for TypeSpawn, Terminate for TypeTerminate.
	Spawn     *Spawn     `json:"spawn,omitempty"`
	Terminate *Terminate `json:"terminate,omitempty"`
	// Nap is set for TypeSleep, where it is odd, and TypeWake, where it is even. A drone that has applied it, or a greater one, does nothing.
	Nap int64 `json:"nap,omitempty"`
}

// Spawn is a backend to run. A drone refuses it in another session than Session
// and past the soft deadline, which is that of the session's lease when the backend
// was placed.
type Spawn struct {
	Session      string          `json:"session"`
	Key          Key             `json:"key"`
	FencingToken int64           `json:"fencing_token"`
	Deadlines    Deadlines       `json:"deadlines"`
	StaticToken  string          `json:"static_token,omitempty"`
	Executable   json.RawMessage `json:"executable"`
	// Template is what the backend was asked for by, if it was: a spare of it may be claimed. Executable is the template's then.
	Template *SpawnTemplate `json:"template,omitempty"`
}

// Terminate ends a backend: softly (SIGTERM, grace, SIGKILL) or at once.
type Terminate struct {
	Hard   bool              `json:"hard"`
	Reason TerminationReason `json:"reason"`
}

func (a *Action) validate() *Error {
	if err := checkID("backend_id", a.BackendID); err != nil {
		return err
	}
	switch a.Type {
	case TypeSpawn:
		if a.Spawn == nil {
			return badField("spawn", "is missing")
		}
		if a.Spawn.FencingToken < 1 {
			return badField("spawn.fencing_token", "must be at least 1")
		}
		if err := checkSession("spawn.session", a.Spawn.Session); err != nil {
			return err
		}
		if err := a.Spawn.Key.validate(); err != nil {
			return err
		}
		if err := checkText("spawn.static_token", a.Spawn.StaticToken, MaxToken); err != nil {
			return err
		}
		if a.Spawn.Template != nil {
			if err := a.Spawn.Template.validate(); err != nil {
				return err
			}
		}
		return checkObject("spawn.executable", a.Spawn.Executable, MaxExecutable)
	case TypeTerminate:
		if a.Terminate == nil {
			return badField("terminate", "is missing")
		}
		return a.Terminate.Reason.check("terminate.reason")
	case TypeSleep, TypeWake:
		if a.Nap < 1 || a.Nap > maxNap || AsleepAt(a.Nap) != (a.Type == TypeSleep) {
			return badField("nap", "is %d: a sleep has an odd one, a wake an even one", a.Nap)
		}
		return nil
	}
	return badField("type", "%.60q is not an action", a.Type)
}

// RegisterRequest begins a session of a drone.
type RegisterRequest struct {
	// Session is new for each run of the agent: 1 to 45 characters of a-z 0-9 -.
	Session string `json:"session"`
	// MachineID and BootID say which machine this is, and since which start of its system:
	// a random id from the drone's data directory, and the kernel's boot id. Each has the
	// form of a session. While another machine holds the drone's name, or this one did
	// before it was started anew, the registration is refused with DroneHeld.
	MachineID string `json:"machine_id"`
	BootID    string `json:"boot_id"`
	Cluster   string `json:"cluster"`
	Pool      string `json:"pool,omitempty"`
	Version   string `json:"version,omitempty"`
	Runtime   string `json:"runtime,omitempty"`
	// Capacity is what the drone takes at most.
	Capacity
	// Sleeps says that the drone puts backends to sleep and wakes them; the workers ask no other drone to.
	Sleeps bool `json:"sleeps,omitempty"`
	// GraceMS is how long the drone lets a backend that was asked to end go on before it
	// kills it; up to MaxGrace. 0: 10 s.
	GraceMS int64 `json:"grace_ms,omitempty"`
	// DroneTimeMS is the drone's boot-time clock when it wrote this.
	DroneTimeMS int64 `json:"drone_time_ms"`
	// Backends are all that still run on the drone, MaxNamed at most. What else the
	// workers know of it has ended, and is ended as lost. Repeated in the same session, a
	// registration compares what is held once more.
	Backends []string `json:"backends,omitempty"`
}

// Capacity is what a drone takes at most: backends, and what they may promise
// themselves of its memory and processors. 0 of any: no limit.
type Capacity struct {
	MaxBackends    int   `json:"max_backends,omitempty"`
	MaxMemoryBytes int64 `json:"max_memory_bytes,omitempty"`
	// MaxCPUMillis is in thousandths of a processor.
	MaxCPUMillis int64 `json:"max_cpu_millis,omitempty"`
}

// RegisterResponse tells the drone where its actions are (they are delivered to its
// DeliverSubject) and which of its backends it does not hold any more.
type RegisterResponse struct {
	Stream              string `json:"stream"`
	Consumer            string `json:"consumer"`
	HeartbeatIntervalMS int64  `json:"heartbeat_interval_ms"`
	// Lost are those of the backends named that are no longer the drone's: their
	// processes must be killed at once.
	Lost []string `json:"lost,omitempty"`
	// TemplatesRevision is as in HeartbeatResponse.
	TemplatesRevision int64 `json:"templates_revision,omitempty"`
	Renewal
}

// HeartbeatRequest says that a drone lives and renews its session's lease. It costs the
// same whatever the drone holds.
type HeartbeatRequest struct {
	Session     string `json:"session"`
	DroneTimeMS int64  `json:"drone_time_ms"`
	// Ready says that the drone takes spawns, NotReady why it does not, for people, where that
	// is for them to mend: at most MaxNotReady bytes.
	Ready    bool   `json:"ready"`
	NotReady string `json:"not_ready,omitempty"`
	Load     Load   `json:"load"`
	// Spares are those that the drone keeps, by template: all of them, MaxTemplates entries at most.
	Spares []SpareState `json:"spares,omitempty"`
}

// Load is how busy a drone is: its backends, and what was promised to them.
type Load struct {
	Backends    int   `json:"backends"`
	MemoryBytes int64 `json:"memory_bytes,omitempty"`
	// CPUMillis is in thousandths of a processor.
	CPUMillis int64 `json:"cpu_millis,omitempty"`
}

// HeartbeatResponse says until when the session's lease was renewed.
type HeartbeatResponse struct {
	Draining bool `json:"draining,omitempty"`
	// TemplatesRevision rises with every change of a template. A drone that has others asks for its own anew ([SubjectDroneTemplates]).
	TemplatesRevision int64 `json:"templates_revision,omitempty"`
	Renewal
}

// Renewal is a session's lease after it was renewed.
type Renewal struct {
	// Deadlines are those of all that the session holds, but for what is sealed.
	Deadlines Deadlines `json:"deadlines"`
	// Sealed are backends of the session that are not renewed any more: they keep the
	// deadlines that they had before, and the drone starts none of them that it has not started yet.
	Sealed []string `json:"sealed,omitempty"`
}

// ReportRequest states what became of backends; all of it holds or nothing.
type ReportRequest struct {
	Session string   `json:"session"`
	Reports []Report `json:"reports"`
}

// Report is a backend's new state.
type Report struct {
	BackendID string `json:"backend_id"`
	// Refused says, with status terminated, that the drone has not taken the spawn on
	// for want of room: the workers may place the backend on another drone instead of
	// ending it.
	Refused bool `json:"refused,omitempty"`
	// Traceparent and Tracestate are those of the action that led to the state; where they are left out, the headers of
	// the message count. What is not a valid traceparent is dropped.
	Traceparent string `json:"traceparent,omitempty"`
	Tracestate  string `json:"tracestate,omitempty"`
	State
	// Nap is said whenever it changes, with the status as it is, and once for each backend whose nap is not 0 after each registration.
	Nap
}

// Empty is the reply to what needs none.
type Empty struct{}

func (r *RegisterRequest) validate() *Error {
	if err := checkSession("session", r.Session); err != nil {
		return err
	}
	if err := checkSession("machine_id", r.MachineID); err != nil {
		return err
	}
	if err := checkSession("boot_id", r.BootID); err != nil {
		return err
	}
	if err := checkCluster("cluster", r.Cluster); err != nil {
		return err
	}
	if err := checkText("pool", r.Pool, MaxName); err != nil {
		return err
	}
	if err := checkText("version", r.Version, MaxName); err != nil {
		return err
	}
	if err := checkText("runtime", r.Runtime, MaxName); err != nil {
		return err
	}
	if err := r.Capacity.validate(); err != nil {
		return err
	}
	if r.GraceMS < 0 || r.GraceMS > MaxGrace.Milliseconds() {
		return badField("grace_ms", "must be 0 (10 s) to %d", MaxGrace.Milliseconds())
	}
	if err := checkDroneTime(r.DroneTimeMS); err != nil {
		return err
	}
	return checkIDs("backends", r.Backends, MaxNamed)
}

func (r *HeartbeatRequest) validate() *Error {
	if err := checkSession("session", r.Session); err != nil {
		return err
	}
	if err := checkDroneTime(r.DroneTimeMS); err != nil {
		return err
	}
	if err := checkText("not_ready", r.NotReady, MaxNotReady); err != nil {
		return err
	}
	if err := r.Load.validate(); err != nil {
		return err
	}
	return checkSpares(r.Spares)
}

// maxPromise bounds bytes and thousandths of processors, far above what there is,
// so that sums of them do not overflow.
const maxPromise = 1 << 50

func (c *Capacity) validate() *Error {
	switch {
	case c.MaxBackends < 0 || c.MaxBackends > 1e9:
		return badField("max_backends", "must be 0 (no limit) to 1000000000")
	case c.MaxMemoryBytes < 0 || c.MaxMemoryBytes > maxPromise:
		return badField("max_memory_bytes", "must be 0 (no limit) to %d", int64(maxPromise))
	case c.MaxCPUMillis < 0 || c.MaxCPUMillis > maxPromise:
		return badField("max_cpu_millis", "must be 0 (no limit) to %d", int64(maxPromise))
	}
	return nil
}

// CheckCapacity refuses what is not a capacity.
func CheckCapacity(c Capacity) error { return asError(c.validate()) }

func (l *Load) validate() *Error {
	switch {
	case l.Backends < 0 || l.Backends > 1e9:
		return badField("load.backends", "must be 0 to 1000000000")
	case l.MemoryBytes < 0 || l.MemoryBytes > maxPromise:
		return badField("load.memory_bytes", "must be 0 to %d", int64(maxPromise))
	case l.CPUMillis < 0 || l.CPUMillis > maxPromise:
		return badField("load.cpu_millis", "must be 0 to %d", int64(maxPromise))
	}
	return nil
}

func (r *ReportRequest) validate() *Error {
	if err := checkSession("session", r.Session); err != nil {
		return err
	}
	if len(r.Reports) == 0 || len(r.Reports) > MaxReports {
		return badField("reports", "must have 1 to %d entries", MaxReports)
	}
	for i := range r.Reports {
		if err := r.Reports[i].validate(); err != nil {
			err.Message = "reports[" + strconv.Itoa(i) + "]." + err.Message
			return err
		}
	}
	return nil
}

func (r *Report) validate() *Error {
	if err := checkID("backend_id", r.BackendID); err != nil {
		return err
	}
	if err := r.State.validate(); err != nil {
		return err
	}
	if err := r.Nap.validate(); err != nil {
		return err
	}
	switch {
	case len(r.Traceparent)+len(r.Tracestate) > 1024:
		return badField("traceparent", "and tracestate may have 1024 characters together")
	case r.Refused && r.Status != Terminated:
		return badField("refused", "goes with status terminated")
	case r.Status == Scheduled:
		return badField("status", "scheduled is the worker's to say")
	}
	return nil
}

func checkSession(field, s string) *Error { return checkID(field, s) }

func checkDroneTime(ms int64) *Error {
	// A hundred years of uptime; beyond it deadlines could overflow. 0 would be the machine's start itself, and what is
	// left out is 0: the deadlines that count from it would be over.
	if ms < 1 || ms > 100*366*24*3600*1000 {
		return badField("drone_time_ms", "must be the milliseconds since the machine's start, by its own clock; at least 1")
	}
	return nil
}
