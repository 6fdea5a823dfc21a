package cli

import (
	"time"

	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/internal/store"
)

// leaseTTLCmd is `jetway lease-ttl`. It asks the database itself: all workers go by what
// stands there.
type leaseTTLCmd struct {
	TTL      time.Duration `arg:"" optional:"" placeholder:"DURATION" help:"How long leases are to live from now on; without it, the command shows how long they live."`
	Postgres string        `required:"" placeholder:"DSN" help:"Postgres database of the workers, as a URL or as words (host=… dbname=…)."`
}

// Run shows or changes it.
func (c *leaseTTLCmd) Run(r *run) error {
	if c.TTL != 0 && (c.TTL < minLeaseTTL || c.TTL > time.Hour) {
		return usagef("DURATION: must be %s to 1h", minLeaseTTL)
	}
	st, err := store.Open(r.ctx, store.Config{DSN: c.Postgres, MaxConns: 1})
	if err != nil {
		return usagef("--postgres: %v", err)
	}
	defer st.Close()
	if _, err := st.Look(r.ctx); err != nil {
		return err
	}
	before := st.Terms().TTL
	if c.TTL == 0 || c.TTL == before {
		r.printf("leases live %s\n", before)
		return nil
	}
	if err := st.SetLeaseTTL(r.ctx, lease.Terms{TTL: c.TTL}); err != nil {
		return err
	}
	r.printf("leases live %s from now on, and %s until now; workers and drones take it within seconds\n", c.TTL, before)
	return nil
}
