package lease_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// I1: who asks for a key that may be held, in a database that was restored, is told for how long nobody gets it: as long as leases live there.
func TestI1WhoAsksARestoredDatabaseIsToldHowLongItTakes(t *testing.T) {
	t.Parallel()
	r := newRig(t) // whose leases live for an hour
	c := r.connector(t)
	ctx := testkit.Context(t)
	if err := r.Distrust(ctx); err != nil {
		t.Fatal(err)
	}
	outcomes, _ := c.Connect(ctx, []lease.Request{ask("doc", "", nil), joinOnly("other")})
	for i, o := range outcomes {
		refused, ok := errors.AsType[*messages.Error](o.Err)
		if !ok || refused.Kind != messages.Unavailable || refused.Reason != messages.UnavailableRestored || !strings.Contains(refused.Message, "ask again in 1h0m0s,") {
			t.Errorf("request %d: %v", i, o.Err)
		}
	}
}
