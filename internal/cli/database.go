package cli

import (
	"errors"

	"github.com/jetway-project/jetway/internal/store"
)

const (
	isRestored = "restored"
	isComplete = "complete"
)

// databaseCmd is `jetway database`. With it an operator tells the workers what only an operator can know about their database.
type databaseCmd struct {
	Is       string `arg:"" optional:"" name:"restored|complete" help:"restored: the database is a copy of what it was, or has lost commits, so it may not know what runs: the workers start nothing until a lease's time is over. They see most copies by themselves, but not a disk that was put back as it was while no worker ran. complete: no commit was lost, so they need not wait any longer. Without it, the command shows how it stands."`
	Postgres string `required:"" placeholder:"DSN" help:"Postgres database of the workers, as a URL or as words (host=… dbname=…)."`
}

// Run shows or says it.
func (c *databaseCmd) Run(r *run) error {
	if c.Is != "" && c.Is != isRestored && c.Is != isComplete {
		return usagef("%.40q: a database is said to be restored or complete", c.Is)
	}
	st, err := store.Open(r.ctx, store.Config{DSN: c.Postgres, MaxConns: 1})
	if err != nil {
		return usagef("--postgres: %v", err)
	}
	defer st.Close()
	switch c.Is {
	case isRestored:
		err = st.Distrust(r.ctx)
	case isComplete:
		err = st.Believe(r.ctx)
	}
	if errors.Is(err, store.ErrNotFoundYet) {
		return &failure{what: err.Error(), do: "start a worker on it, or wait for a second, and say it again", code: ExitFailed, err: err}
	}
	if err != nil {
		return databaseError(err)
	}
	believed, ttl, err := st.Believed(r.ctx)
	switch {
	case err != nil:
		return databaseError(err)
	case believed:
		r.printf("the workers believe what the database says\n")
	default:
		r.printf("the workers start and take over nothing for %s from when one has found this database, in which the drones say what they run; what runs goes on\n", ttl)
	}
	return nil
}
