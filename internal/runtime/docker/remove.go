package docker

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
)

const (
	// removeTick is how often, at least, is looked for what is due.
	removeTick = time.Second
	// removeTries is how often the engine may refuse to remove a container. What is
	// left then, the next agent finds.
	removeTries = 20
)

// remover removes containers that have ended, a while after it was told of them.
type remover struct {
	r *Runtime

	mu  sync.Mutex
	due map[string]removal // by id or name
}

type removal struct {
	at    time.Time
	tries int
}

func newRemover(r *Runtime) *remover {
	return &remover{r: r, due: map[string]removal{}}
}

// add has a container that has ended removed, RemoveAfter from now.
func (m *remover) add(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.due[id] = removal{at: time.Now().Add(m.r.config.RemoveAfter)}
}

// run works until Close. What is not due by then stays for the next agent.
func (m *remover) run() {
	tick := time.NewTicker(min(removeTick, m.r.config.RemoveAfter))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-m.r.ctx.Done():
			return
		}
		for _, id := range m.dueNow() {
			m.settle(id, m.remove(id))
		}
	}
}

// remove removes one. By force: should somebody have started it again, its backend has
// ended all the same, and its lease is another's (I1). A name may be another drone's.
func (m *remover) remove(id string) error {
	if strings.HasPrefix(id, namePrefix) {
		found, err := m.r.inspect(m.r.ctx, id)
		switch {
		case errdefs.IsNotFound(err):
			return nil
		case err != nil:
			return plain(err)
		}
		id = found.ID
	}
	return m.r.remove(id)
}

// has says whether a container is to be removed.
func (m *remover) has(id string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.due[id]
	return ok
}

func (m *remover) dueNow() (ids []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	for id, removal := range m.due {
		if !now.Before(removal.at) {
			ids = append(ids, id)
		}
	}
	return ids
}

func (m *remover) settle(id string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	removal := m.due[id]
	removal.at = time.Now().Add(m.r.config.RemoveAfter)
	if _, answered := errors.AsType[*engineError](err); answered {
		removal.tries++
	}
	m.due[id] = removal
	if err == nil || removal.tries == removeTries {
		delete(m.due, id)
	}
	if removal.tries > 0 && !errdefs.IsConflict(err) { // else it is being removed
		m.r.config.Log.Warn("cannot remove a container that has ended", "container", id, "attempt", removal.tries, "err", err)
	}
}

// remove removes a container with its anonymous volumes, also one that runs. One that
// is not there is removed.
func (r *Runtime) remove(id string) error {
	ctx, cancel := context.WithTimeout(r.ctx, askTimeout)
	defer cancel()
	_, err := r.engine.ContainerRemove(ctx, id, client.ContainerRemoveOptions{RemoveVolumes: true, Force: true})
	if err == nil || errdefs.IsNotFound(err) {
		return nil
	}
	return plain(err)
}
