package lease

import (
	"fmt"
	"time"

	"github.com/jetway-project/jetway/internal/mutant"
	"github.com/jetway-project/jetway/messages"
)

// Terms are the times of a lease; all follow from its time to live.
type Terms struct{ TTL time.Duration }

// DefaultTerms are those of the design: 60 s, renewed every 10 s, a drone given
// up at 40 s (softly) and 50 s, drones heard from within 20 s get new backends.
var DefaultTerms = Terms{TTL: 60 * time.Second}

// Validate refuses terms too short for a network and a database.
func (t Terms) Validate() error {
	if t.TTL < time.Second || t.TTL > time.Hour {
		return fmt.Errorf("lease time to live is %s: must be 1s to 1h", t.TTL)
	}
	return nil
}

// RenewEvery is how often a drone renews.
func (t Terms) RenewEvery() time.Duration { return t.TTL / 6 }

// FreshWithin is how recently a drone must have been heard from to get a backend.
func (t Terms) FreshWithin() time.Duration { return t.TTL / 3 }

// Deadlines count from a time that the drone stated, in its own milliseconds.
func (t Terms) Deadlines(droneTimeMS int64) messages.Deadlines {
	ttl := t.TTL.Milliseconds()
	if mutant.On(mutant.LateDeadline) {
		ttl *= 3
	}
	return messages.Deadlines{
		RenewAtMS:         droneTimeMS + ttl/6,
		SoftTerminateAtMS: droneTimeMS + ttl*4/6,
		HardTerminateAtMS: droneTimeMS + ttl*5/6,
	}
}
