package process

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// home is a backend's own directory: its working directory and HOME, and its TMPDIR, tmp
// in it.
type home string

func (h home) temp() string { return filepath.Join(string(h), "tmp") }

// makeHome makes a backend's directory, empty, for its user.
func (r *Runtime) makeHome(backendID string, user int) (h home, err error) {
	defer func() {
		if err != nil {
			h.remove()
			h, err = "", fmt.Errorf("make the backend's directory: %w", reason(err))
		}
	}()
	if r.outlives() {
		h = r.homeOf(backendID)
		h.remove() // left by one that ended without an agent
		err = os.Mkdir(string(h), 0o700)
	} else {
		var dir string
		dir, err = os.MkdirTemp(r.config.Dir, "backend-")
		h = home(dir)
	}
	if err == nil {
		err = os.Mkdir(h.temp(), 0o700)
	}
	if err == nil {
		err = r.users.own(user, string(h), h.temp())
	}
	return h, err
}

// homeOf is the directory of a backend that may outlive the agent.
func (r *Runtime) homeOf(backendID string) home {
	return home(filepath.Join(r.config.Dir, backendID+".dir"))
}

// setAside gives the directory another name, so that its removal, which may take long, holds
// nothing up: not the end of the backend, nor the next one of its name.
func (h home) setAside() home {
	aside := home(fmt.Sprintf("%s.%d.gone", h, time.Now().UnixNano()))
	if h == "" || os.Rename(string(h), string(aside)) != nil {
		return h
	}
	return aside
}

// remove removes the directory and all in it, also what the backend has made read-only,
// as some package managers do. What cannot be removed is, with the next start.
func (h home) remove() {
	if h == "" || os.RemoveAll(string(h)) == nil {
		return
	}
	_ = filepath.WalkDir(string(h), func(path string, entry fs.DirEntry, _ error) error {
		if entry != nil && entry.IsDir() {
			_ = os.Chmod(path, 0o700) //nolint:gosec // what is not followed is no link: WalkDir says so
		}
		return nil
	})
	_ = os.RemoveAll(string(h))
}
