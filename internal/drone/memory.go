package drone

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jetway-project/jetway/internal/drone/guard"
	"github.com/jetway-project/jetway/internal/drone/journal"
	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/messages"
)

// flushPatience is how long the end of a run waits for the journal's disk.
const flushPatience = 3 * time.Second

// memory is what outlives a run of the agent, in the data directory. Without one
// its parts are nil, and nothing is remembered.
type memory struct {
	journal *journal.Journal
	// leases has the deadlines, for the guard and for the next run.
	leases *guard.Ledger
	// post is where the guard stands; nil where there is none.
	post *guard.Post
}

// past is what an earlier run of the agent left.
type past struct {
	journal.Contents
	leases map[string]guard.Lease
}

// remember opens the data directory, and has a guard stand over it until work ends.
func (a *agent) remember(work context.Context) (past, error) {
	if a.cfg.DataDir == "" {
		return past{}, nil
	}
	j, contents, err := journal.Open(journal.Config{
		Dir: a.cfg.DataDir, Drone: a.cfg.Name, Log: a.log,
		OnChange: func() {
			nudge(a.reports.wake)
			if a.healthChanged() {
				nudge(a.kick)
			}
		},
	})
	if err != nil {
		return past{}, err
	}
	a.memory.journal = j
	if a.memory.leases, err = guard.Open(a.cfg.DataDir, a.cfg.Name); err != nil {
		return past{}, errors.Join(err, a.memory.close())
	}
	before := past{Contents: contents, leases: map[string]guard.Lease{}}
	for _, lease := range a.memory.leases.Found() {
		before.leases[lease.BackendID] = lease
	}
	if len(a.cfg.Guard) > 0 {
		a.memory.post = guard.Start(work, a.log, a.cfg.Guard, a.cfg.DataDir)
		a.wg.Go(func() {
			if a.memory.post.Await(work) == nil {
				nudge(a.kick) // spawns can be taken
			}
			a.memory.post.Wait()
		})
	}
	return before, nil
}

// close commits what was noted and lets go of the data directory. What runs
// stays in the ledger, for the guard.
func (m *memory) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), flushPatience)
	defer cancel()
	err := m.journal.Close(ctx)
	if m.leases != nil {
		err = errors.Join(err, m.leases.Close())
	}
	return err
}

// guarded says whether what is started now ends with its lease, whatever becomes of
// the agent (I1).
func (m *memory) guarded() bool { return m.post == nil || m.post.Stands() }

// awaitGuard waits until there is a guard, where there is to be one.
func (m *memory) awaitGuard(ctx context.Context) error {
	if m.post == nil {
		return nil
	}
	return m.post.Await(ctx)
}

// putLease tells the guard of a backend; pid is 0 before it has started.
func (a *agent) putLease(h *held, pid int) error {
	if a.memory.leases == nil {
		return nil
	}
	a.mu.Lock()
	lease := h.ledgerLease()
	a.mu.Unlock()
	lease.PID = pid
	return a.memory.leases.Put(lease)
}

// dropLease tells the guard that nothing of a backend runs any more.
func (a *agent) dropLease(ctx context.Context, id string) {
	if a.memory.leases == nil {
		return
	}
	if err := a.memory.leases.Remove(id); err != nil {
		a.log.WarnContext(ctx, "cannot take an ended backend's lease off the ledger", "backend_id", id, "err", err)
	}
}

// ledgerLease is what the guard is to know of a backend's lease.
func (h *held) ledgerLease() guard.Lease {
	return guard.Lease{BackendID: h.id, SoftAtMS: h.lease.softAtMS, HardAtMS: h.lease.hardAtMS}
}

// renewLeases tells the guard how long the session's lease lives, for all backends that
// share it in one write. Until it is told it goes by the old deadlines, which is safe.
func (a *agent) renewLeases(ctx context.Context) {
	if a.memory.leases == nil {
		return
	}
	a.renewing.Lock() // what is written last is what was renewed last
	defer a.renewing.Unlock()
	a.mu.Lock()
	renewed := make([]guard.Lease, 0, len(a.backends))
	for _, h := range a.backends {
		if h.lease == a.session.lease {
			renewed = append(renewed, h.ledgerLease())
		}
	}
	a.mu.Unlock()
	if err := a.memory.leases.Renew(renewed); err != nil {
		a.log.ErrorContext(ctx, "cannot write renewed leases down: the guard goes by the old ones, should this agent die", "err", err)
	}
}

// healthChanged says whether the journal has begun or ceased to fail since it was
// last asked. It is the committer's alone.
func (a *agent) healthChanged() bool {
	failing := a.memory.failing()
	return a.memoryFailed.Swap(failing) != failing
}

// failing says whether nothing can be journalled now.
func (m *memory) failing() bool { return m.journal.Failing() != nil }

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

// cannotRemember says why a spawn is refused while nothing can be journalled, or "".
func (m *memory) cannotRemember() string {
	if err := m.journal.Failing(); err != nil {
		return fmt.Sprintf("the drone's journal cannot be written: %v", err)
	}
	return ""
}
