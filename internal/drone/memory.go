package drone

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jetway-project/jetway/internal/drone/guard"
	"github.com/jetway-project/jetway/internal/drone/journal"
	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/messages"
)

// memory is what outlives a run of the agent, in the data directory. Without one
// its parts are nil, and nothing is remembered.
type memory struct {
	journal *journal.Journal
	// post is where the guard stands; nil where there is none.
	post *guard.Post
}

// remember opens the data directory, and has a guard stand over it until work ends.
func (a *agent) remember(work context.Context) (before journal.Contents, err error) {
	if a.cfg.DataDir == "" {
		return before, nil
	}
	again := func() { nudge(a.kick) } // the workers hear whether spawns are taken
	a.memory.journal, before, err = journal.Open(journal.Config{
		Dir: a.cfg.DataDir, Drone: a.cfg.Name, Machine: a.who.MachineID, Boot: a.who.BootID, Log: a.log, OnChange: again,
	})
	if err != nil {
		return before, err
	}
	if len(a.cfg.Guard) > 0 || a.cfg.Guarded {
		a.memory.post = guard.Start(work, a.log, a.cfg.Guard, a.cfg.DataDir, again)
		a.wg.Go(a.memory.post.Wait)
	}
	return before, nil
}

// unable says why no spawns are taken, as far as it is not for the bus to say, or "".
func (m *memory) unable() string {
	if err := m.journal.Failing(); err != nil {
		return fmt.Sprintf("the drone's journal cannot be written: %v", err)
	}
	if m.post == nil {
		return ""
	}
	// What is started ends with its lease, whatever becomes of the agent (I1), or is not started.
	if err := m.post.Trouble(); err != nil {
		return err.Error()
	}
	return ""
}

// awaitGuard waits until there is a guard, where there is to be one.
func (m *memory) awaitGuard(ctx context.Context) error {
	if m.post == nil {
		return nil
	}
	return m.post.Await(ctx)
}

// errSealing says that the guard is not told of a renewal.
var errSealing = errors.New("the journal cannot be written, so the guard cannot know whose lease is not renewed: it goes by the deadlines before")

// renewLocked tells the guard how long the session's lease lives. Until it is told it goes by the
// old deadlines, which is safe; who does not share them must be in the journal before (I1).
func (a *agent) renewLocked() error {
	if a.unsealed && a.memory.journal.Failing() != nil {
		return errSealing
	}
	a.unsealed = false
	l := a.session.lease
	if l.softAtMS == 0 {
		return nil // of a session that is not renewed yet
	}
	return a.memory.journal.Renew(journal.Lease{SoftAtMS: l.softAtMS, HardAtMS: l.hardAtMS})
}

// withoutSecrets is a spawn as it may stay on a disk, and its executable as it is, if
// it has secrets. A runtime that adopts nothing has none.
func (a *agent) withoutSecrets(spawn *messages.Spawn) (safe *messages.Spawn, secret json.RawMessage) {
	adopter, ok := a.rt.(runtime.Adopter)
	if !ok || a.memory.journal == nil {
		return spawn, nil
	}
	copied := *spawn
	executable, had := adopter.WithoutSecrets(spawn.Executable)
	if had {
		secret = spawn.Executable
	}
	copied.Executable = executable
	return &copied, secret
}
