package messages

import (
	"errors"
	"fmt"
	"strconv"
)

// Kind names what went wrong, for a program to branch on.
type Kind string

// The kinds of errors; PROTOCOL.md says when each is given.
const (
	BadRequest             Kind = "BadRequest"
	NoClusterProvided      Kind = "NoClusterProvided"
	NotFound               Kind = "NotFound"
	KeyHeld                Kind = "KeyHeld"
	KeyUnheldNoSpawnConfig Kind = "KeyUnheldNoSpawnConfig"
	BackendExists          Kind = "BackendExists"
	KeyHeldUnhealthy       Kind = "KeyHeldUnhealthy"
	DroneHeld              Kind = "DroneHeld"
	CannotSleep            Kind = "CannotSleep"
	TemplateChanged        Kind = "TemplateChanged"
	Forbidden              Kind = "Forbidden"
	FailedToAcquireKey     Kind = "FailedToAcquireKey"
	NoDroneAvailable       Kind = "NoDroneAvailable"
	BackingOff             Kind = "BackingOff"
	Overloaded             Kind = "Overloaded"
	Unavailable            Kind = "Unavailable"
	Internal               Kind = "Internal"
)

// Kinds are all of them, for those who count by kind.
func Kinds() []Kind {
	return []Kind{
		BadRequest, NoClusterProvided, NotFound, KeyHeld, KeyUnheldNoSpawnConfig, BackendExists, KeyHeldUnhealthy,
		DroneHeld, CannotSleep, TemplateChanged, Forbidden, FailedToAcquireKey, NoDroneAvailable, BackingOff, Overloaded, Unavailable, Internal,
	}
}

// Code is the HTTP-like number of the kind, as sent in Nats-Service-Error-Code.
func (k Kind) Code() int {
	switch k {
	case BadRequest, NoClusterProvided:
		return 400
	case Forbidden:
		return 403
	case NotFound:
		return 404
	case KeyHeld, KeyUnheldNoSpawnConfig, BackendExists, KeyHeldUnhealthy, DroneHeld, CannotSleep, TemplateChanged:
		return 409
	case NoDroneAvailable, BackingOff, Overloaded, Unavailable:
		return 503
	default:
		return 500
	}
}

// The reasons of errors of kind Unavailable that end by themselves.
const (
	UnavailableRestored  = "restored"  // the database was restored or failed over, and is not believed yet
	UnavailableMigrating = "migrating" // it has tables of another version, to be migrated
)

// NoDrone is the Reason of an error of kind NoDroneAvailable.
type NoDrone string

// The reasons why no drone takes a backend.
const (
	NoDroneOfCluster NoDrone = "unknown-cluster" // no drone has ever been of the cluster, or none is remembered
	NoDroneOfPool    NoDrone = "unknown-pool"    // the cluster has drones, but none in the pool
	NoDroneHeard     NoDrone = "silent"          // none has been heard of lately
	NoDroneReady     NoDrone = "not-ready"       // those that are heard say that they take none
	NoDroneDraining  NoDrone = "draining"        // those that would take some are drained
	NoDroneFree      NoDrone = "full"            // those that would take some are full
)

// NoDrones are all of them, for those who count by reason.
func NoDrones() []NoDrone {
	return []NoDrone{NoDroneOfCluster, NoDroneOfPool, NoDroneHeard, NoDroneReady, NoDroneDraining, NoDroneFree}
}

// Headers of an error reply, those of the NATS micro protocol, and of requests.
const (
	HeaderError       = "Nats-Service-Error"
	HeaderErrorCode   = "Nats-Service-Error-Code"
	HeaderTimeout     = "Jetway-Timeout" // a Go duration: how long the asker waits
	HeaderTraceparent = "traceparent"    // W3C trace context, passed through: see TraceContext
	HeaderTracestate  = "tracestate"
	HeaderMessageID   = "Nats-Msg-Id"
)

// Error is the body of an error reply. ID is also in the worker's log line.
type Error struct {
	ID      string `json:"id"`
	Kind    Kind   `json:"kind"`
	Message string `json:"message"`
	// Reason says more of the kind to programs: see [NoDrone], [UnavailableRestored]. A reader must expect reasons that it does not know.
	Reason string `json:"reason,omitempty"`
	// RetryAfterMS is in how many milliseconds asking again is worth it (BackingOff only).
	RetryAfterMS int64 `json:"retry_after_ms,omitempty"`
	// LastWords are how the key's last backend ended, for people (BackingOff only).
	LastWords string `json:"last_words,omitempty"`
	// Backends are those that the message had no right to speak of (reports only).
	Backends []string `json:"backends,omitempty"`
}

// Error says kind and message in one line.
func (e *Error) Error() string { return string(e.Kind) + ": " + e.Message }

// CodeString is the code as it stands in the header.
func (e *Error) CodeString() string { return strconv.Itoa(e.Kind.Code()) }

// Errorf makes an error of a kind.
func Errorf(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Message: fmt.Sprintf(format, args...)}
}

// KindOf gives the kind of err, or "" when it is not one of this package.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return ""
}

// badField is a refusal that names the field it is about.
func badField(field, format string, args ...any) *Error {
	return Errorf(BadRequest, "%s: %s", field, fmt.Sprintf(format, args...))
}
