package cli

import (
	"errors"
	"time"

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
	JSON     bool   `name:"json" help:"Print JSON. deploy/README.md says in which shape."`
}

// databaseState is what jetway database --json prints.
type databaseState struct {
	Believed bool `json:"believed"`
	// Found says that a worker waits in it, and LeftMS for how long yet; where none has found it, how long one would.
	Found  bool  `json:"found"`
	LeftMS int64 `json:"left_ms"`
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
	if err := st.Schema(r.ctx); err != nil {
		return databaseError(err)
	}
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
	b, err := st.Believed(r.ctx)
	if err != nil {
		return databaseError(err)
	}
	if c.JSON {
		state := databaseState{Believed: b.Believed, Found: b.Found || b.Believed}
		if !b.Believed {
			state.LeftMS = b.Left.Milliseconds()
		}
		return r.printIndented(state)
	}
	const meanwhile = "in which the drones say what they run; what runs goes on"
	left := b.Left.Round(time.Second)
	switch {
	case b.Believed:
		r.printf("the workers believe what the database says\n")
	case b.Found:
		r.printf("the workers start and take over nothing for another %s, %s\n", left, meanwhile)
	default:
		r.printf("no worker has found this database yet; from when one has, the workers start and take over nothing for %s at least, %s\n", left, meanwhile)
	}
	return nil
}
