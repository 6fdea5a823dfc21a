package proxy

import (
	"errors"
	"time"

	"github.com/jetway-project/jetway/messages"
)

// A token may lead to a key that outlives its backends. Then a worker starts the next one before it answers, or says why it cannot: what
// is here is how a visitor is told.

// In how long a page asks once more by itself: for what passes soon, and for what somebody has to mend.
const (
	soon     = time.Second
	inAWhile = 10 * time.Second
)

const (
	endsNow  = "This session has just ended, or is about to, and starts again."
	resting  = "This session ended several times soon after it was started, so it rests before it is started again. The last words of it:"
	unplaced = "This session has ended, and starts again when there is room for it: "
)

// noDrone says in plain words why a session cannot start now.
func noDrone(err error) string {
	refused, _ := errors.AsType[*messages.Error](err)
	switch messages.NoDrone(refused.Reason) {
	case messages.NoDroneFree:
		return unplaced + "all machines that could run it are full."
	case messages.NoDroneDraining:
		return unplaced + "the machines that could run it take no new sessions for now."
	case messages.NoDroneOfCluster, messages.NoDroneOfPool:
		return unplaced + "there are no machines (any more) of the kind that ran it."
	}
	return unplaced + "no machine that could run it is heard of just now."
}
