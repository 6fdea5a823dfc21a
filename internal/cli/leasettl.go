package cli

import (
	"errors"
	"time"

	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/messages"
)

// leaseTTLCmd is `jetway lease-ttl`. It asks the database itself: all workers go by what
// stands there.
type leaseTTLCmd struct {
	TTL      *time.Duration `arg:"" optional:"" placeholder:"DURATION" help:"How long leases are to live from now on; without it, the command shows how long they live."`
	Postgres string         `required:"" placeholder:"DSN" help:"Postgres database of the workers, as a URL or as words (host=… dbname=…)."`
}

// Run shows or changes it.
func (c *leaseTTLCmd) Run(r *run) error {
	if c.TTL != nil && (*c.TTL < minLeaseTTL || *c.TTL > time.Hour) {
		return usagef("DURATION: must be %s to 1h, not %s", minLeaseTTL, *c.TTL)
	}
	st, err := store.Open(r.ctx, store.Config{DSN: c.Postgres, MaxConns: 1})
	if err != nil {
		return usagef("--postgres: %v", err)
	}
	defer st.Close()
	if _, err := st.Look(r.ctx); err != nil {
		return databaseError(err)
	}
	before := st.Terms().TTL
	if c.TTL == nil || *c.TTL == before {
		r.printf("leases live %s\n", before)
		return nil
	}
	if err := st.SetLeaseTTL(r.ctx, lease.Terms{TTL: *c.TTL}); err != nil {
		return databaseError(err)
	}
	r.printf("leases live %s from now on, and %s until now; workers and drones take it within seconds\n", *c.TTL, before)
	return nil
}

// databaseError says of a command that asks the database itself what it means that the database did not answer as it should.
func databaseError(err error) error {
	switch {
	case errors.Is(err, store.ErrNotMigrated):
		return &failure{what: store.ErrNotMigrated.Error(), do: "start a worker of this version on it, which makes them, or name another one with --postgres", code: ExitFailed, err: err}
	case errors.Is(err, store.ErrNotLetIn):
		return &failure{what: store.ErrNotLetIn.Error(), do: "mend the database's name, user or password in --postgres", code: ExitFailed, err: err}
	case messages.KindOf(err) == messages.Unavailable:
		return &failure{
			what: "the database cannot be reached", kind: string(messages.Unavailable),
			do: "see that it runs and lets us in, or name another one with --postgres", code: ExitUnavailable, err: err,
		}
	}
	return err
}
