package messages

import (
	"fmt"
	"strings"
)

// Status is where a backend is in its life. Its value is the number of the
// design's section 5: statuses only go up.
type Status int16

// The statuses, in order.
const (
	Scheduled       Status = 10
	Loading         Status = 20
	Starting        Status = 30
	Waiting         Status = 40
	Ready           Status = 50
	Terminating     Status = 60
	HardTerminating Status = 65
	Terminated      Status = 70
)

// Statuses are all of them, in order.
var Statuses = []Status{Scheduled, Loading, Starting, Waiting, Ready, Terminating, HardTerminating, Terminated}

// String gives the status's name, as in JSON.
func (s Status) String() string {
	switch s {
	case Scheduled:
		return "scheduled"
	case Loading:
		return "loading"
	case Starting:
		return "starting"
	case Waiting:
		return "waiting"
	case Ready:
		return "ready"
	case Terminating:
		return "terminating"
	case HardTerminating:
		return "hard-terminating"
	case Terminated:
		return "terminated"
	}
	return fmt.Sprintf("status-%d", int16(s))
}

// Leaving says that the backend ends or has ended.
func (s Status) Leaving() bool { return s >= Terminating }

// MarshalText gives the name.
func (s Status) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the name.
func (s *Status) UnmarshalText(text []byte) error {
	for _, known := range Statuses {
		if string(text) == known.String() {
			*s = known
			return nil
		}
	}
	return Errorf(BadRequest, "%.40q is not a status", text)
}

// TerminationKind says how a backend was ended; "" when it ended by itself.
type TerminationKind string

// The kinds of terminations.
const (
	Soft TerminationKind = "soft"
	Hard TerminationKind = "hard"
)

// TerminationReason says why a backend ended; "" when it ended by itself.
type TerminationReason string

// The reasons.
const (
	ReasonSwept          TerminationReason = "swept"           // idle or past its lifetime
	ReasonExternal       TerminationReason = "external"        // somebody asked
	ReasonKeyExpired     TerminationReason = "key-expired"     // the drone could not renew the lease in time
	ReasonLost           TerminationReason = "lost"            // the drone, or its right to the key, is gone
	ReasonStartupTimeout TerminationReason = "startup-timeout" // not ready in time
	ReasonStartFailed    TerminationReason = "start-failed"    // could not be started; message says why
	ReasonInternalError  TerminationReason = "internal-error"  // the drone's fault
)

// State is a backend's status with what belongs to it.
type State struct {
	Status Status `json:"status"`
	// Address is host:port where the process listens; from waiting on.
	Address string `json:"address,omitempty"`
	// LastStatus is the status before terminated.
	LastStatus Status            `json:"last_status,omitzero"`
	Kind       TerminationKind   `json:"termination_kind,omitempty"`
	Reason     TerminationReason `json:"termination_reason,omitempty"`
	// Message is for people: the exec error, the last words. At most MaxText bytes.
	Message  string `json:"message,omitempty"`
	ExitCode *int   `json:"exit_code,omitempty"`
	Why
}

func (s *State) validate() *Error {
	if s.Status == 0 {
		return badField("status", "is missing")
	}
	switch s.Kind {
	case "", Soft, Hard:
	default:
		return badField("termination_kind", "must be soft or hard")
	}
	if err := s.Reason.check("termination_reason"); err != nil {
		return err
	}
	if s.Address != "" {
		if err := checkAddress("address", s.Address); err != nil {
			return err
		}
	}
	if len(s.Message) > MaxText {
		return badField("message", "is %d bytes long, at most %d are allowed", len(s.Message), MaxText)
	}
	if strings.ContainsRune(s.Message, 0) {
		return badField("message", "holds a NUL character")
	}
	if err := s.Why.validate(); err != nil {
		return err
	}
	if s.ExitCode != nil && int(int32(*s.ExitCode)) != *s.ExitCode {
		return badField("exit_code", "must fit 32 bits")
	}
	return nil
}

func (r TerminationReason) check(field string) *Error {
	switch r {
	case "", ReasonSwept, ReasonExternal, ReasonKeyExpired, ReasonLost, ReasonStartupTimeout, ReasonStartFailed, ReasonInternalError:
		return nil
	}
	return badField(field, "%.40q is not a reason", r)
}
