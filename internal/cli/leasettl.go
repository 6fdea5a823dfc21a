package cli

import (
	"errors"
	"fmt"
	"time"

	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/messages"
)

// leaseTTLCmd is `jetway lease-ttl`. It asks the database itself: all workers go by what
// stands there.
type leaseTTLCmd struct {
	TTL      *time.Duration `arg:"" optional:"" placeholder:"DURATION" help:"How long leases are to live from now on, 15s to 1h; without it, the command shows how long they live."`
	Postgres string         `required:"" placeholder:"DSN" help:"Postgres database of the workers, as a URL or as words (host=… dbname=…)."`
	JSON     bool           `name:"json" help:"Print JSON. deploy/README.md says in which shape."`
}

// leaseTTLState is what jetway lease-ttl --json prints.
type leaseTTLState struct {
	LeaseTTLMS int64 `json:"lease_ttl_ms"`
	BeforeMS   int64 `json:"before_ms"` // until now
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
	if err := st.Schema(r.ctx); err != nil {
		return databaseError(err)
	}
	before, err := st.LeaseTTL(r.ctx)
	if err != nil {
		return databaseError(err)
	}
	if c.TTL != nil && *c.TTL != before {
		if err := st.SetLeaseTTL(r.ctx, lease.Terms{TTL: *c.TTL}); err != nil {
			return databaseError(err)
		}
	}
	if c.JSON {
		now := before
		if c.TTL != nil {
			now = *c.TTL
		}
		return r.printIndented(leaseTTLState{LeaseTTLMS: now.Milliseconds(), BeforeMS: before.Milliseconds()})
	}
	if c.TTL == nil || *c.TTL == before {
		r.printf("leases live %s\n", before)
		return nil
	}
	r.printf("leases live %s from now on, and %s until now; workers and drones take it within seconds\n", *c.TTL, before)
	return nil
}

// databaseError says of a command that asks the database itself what it means that the database did not answer as it should.
func databaseError(err error) error {
	if older, ok := errors.AsType[*store.OlderDatabaseError](err); ok {
		return &failure{
			what: older.Error(),
			do:   "start a worker of this version on it, which migrates it, as those that run do within seconds; or use the jetway of its version", code: ExitFailed, err: err,
		}
	}
	if newer, ok := errors.AsType[*store.NewerDatabaseError](err); ok {
		return &failure{
			what: fmt.Sprintf("the database is at version %d, this jetway knows %d", newer.Database, newer.Binary),
			do:   "use the newer jetway that migrated it", code: ExitFailed, err: err,
		}
	}
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
