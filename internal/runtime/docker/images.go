package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
)

const (
	imagesName = "images.json"
	// maxPruneEvery is how often, at least, unused images are looked for.
	maxPruneEvery = 10 * time.Minute
	// maxImages bounds how many images are kept account of.
	maxImages = 10_000
)

// images are those that this drone pulled, not those that were there before it.
type images struct {
	r *Runtime

	mu    sync.Mutex
	known map[string]pulledImage // by id
	dirty bool
}

// pulledImage is what is noted of one.
type pulledImage struct {
	Ref  string    `json:"ref"`
	Used time.Time `json:"used"`
}

func openImages(r *Runtime) (*images, error) {
	m := &images{r: r, known: map[string]pulledImage{}}
	if r.config.StateDir == "" {
		return m, nil
	}
	if err := os.MkdirAll(r.config.StateDir, 0o700); err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	raw, err := os.ReadFile(m.file())
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read which images were pulled: %w", err)
	}
	if err := json.Unmarshal(raw, &m.known); err != nil {
		// It says only what may be removed: without it, images stay.
		r.config.Log.Warn("the note of pulled images is damaged: those images will not be pruned", "file", m.file(), "err", err)
		m.known = map[string]pulledImage{}
	}
	return m, nil
}

func (m *images) file() string { return filepath.Join(m.r.config.StateDir, imagesName) }

// used notes that an image is needed, or with a name, that one was pulled which was not there.
func (m *images) used(id, pulled string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	image, known := m.known[id]
	if pulled != "" && len(m.known) < maxImages {
		image.Ref, known = pulled, true
	}
	if image.Used = time.Now(); known {
		m.known[id], m.dirty = image, true
	}
}

// run prunes until Close.
func (m *images) run() {
	defer m.save()
	every := maxPruneEvery
	if age := m.r.config.PruneImages; age > 0 {
		every = min(every, max(age/4, 100*time.Millisecond))
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-m.r.ctx.Done():
			return
		}
		m.prune()
		m.save()
	}
}

// prune removes what was not needed for so long. The engine itself refuses to remove
// an image that a container has.
func (m *images) prune() {
	if m.r.config.PruneImages == 0 {
		return
	}
	m.mu.Lock()
	due := maps.Clone(m.known)
	m.mu.Unlock()
	for id, image := range due {
		if time.Since(image.Used) < m.r.config.PruneImages {
			continue
		}
		switch err := m.remove(id, image.Ref); {
		case err == nil:
			m.r.config.Log.Info("removed an image that was not used", "image", image.Ref, "id", id)
		case errdefs.IsNotFound(err):
		case errdefs.IsConflict(err):
			m.used(id, "") // it has a container
			continue
		default:
			m.r.config.Log.Warn("cannot remove an image that was not used", "image", image.Ref, "err", plain(err))
			continue
		}
		m.mu.Lock()
		delete(m.known, id)
		m.dirty = true
		m.mu.Unlock()
	}
}

// remove removes the image by its name, or if that is another image's by now, by its id.
func (m *images) remove(id, ref string) error {
	ctx, cancel := context.WithTimeout(m.r.ctx, askTimeout)
	defer cancel()
	what := id
	if named, err := m.r.engine.ImageInspect(ctx, ref); err == nil && named.ID == id {
		what = ref
	}
	_, err := m.r.engine.ImageRemove(ctx, what, client.ImageRemoveOptions{PruneChildren: true})
	return err
}

// save writes what changed, at once or not at all.
func (m *images) save() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.dirty || m.r.config.StateDir == "" {
		return
	}
	raw, err := json.Marshal(m.known)
	if err == nil {
		draft := m.file() + ".new"
		if err = os.WriteFile(draft, raw, 0o600); err == nil {
			err = os.Rename(draft, m.file())
		}
	}
	if err != nil {
		m.r.config.Log.Warn("cannot note which images were pulled", "err", err)
		return
	}
	m.dirty = false
}
