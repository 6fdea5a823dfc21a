package drone

import (
	"errors"
	"fmt"
	"time"

	"github.com/jetway-project/jetway/messages"
)

// noteUnanswered keeps why a heartbeat or a registration renewed nothing, for who asks later why backends ended.
func (a *agent) noteUnanswered(err error) {
	if err == nil || errors.Is(err, errUnregistered) {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.unanswered = err
}

// unrenewedLocked is the end of a backend whose lease could not be renewed, with the reason as far as the drone saw it.
func (a *agent) unrenewedLocked(h *held, hard bool) endAsked {
	e := endAsked{hard: hard, reason: messages.ReasonKeyExpired, cause: messages.CauseUnrenewed, message: "its lease could not be renewed in time"}
	switch {
	case h.sealed:
		e.message = "the workers renew its lease no more"
		return e
	case a.renewedAtMS > 0:
		e.message += fmt.Sprintf(": no worker has renewed it for %s", (time.Duration(a.nowMS()-a.renewedAtMS) * time.Millisecond).Round(time.Second))
	default:
		e.message += ": no worker has renewed it since the drone's agent began"
	}
	refused, isRefusal := errors.AsType[*messages.Error](a.unanswered)
	switch {
	case !a.nc.IsConnected():
		e.message += "; the drone cannot reach NATS"
	case isRefusal: // also that no worker is there
		e.message += "; the last that it was told: " + refused.Error()
	case a.unanswered != nil:
		e.message += "; no worker answers"
	}
	e.message = oneLine(e.message, messages.MaxWhy)
	return e
}
