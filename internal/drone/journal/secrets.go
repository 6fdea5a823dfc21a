package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// What a start needs and must not stay on a disk has a file of its own in this folder of
// the data directory, named for the backend. It is there before the journal names the backend,
// and removed once the journal says that it has begun: bbolt would keep what was deleted in
// its free pages.
const secretsName = "secrets"

// loadSecrets completes the spawns that have not begun, and removes what is there of others.
func (j *Journal) loadSecrets(backends map[string]Backend) error {
	dir := filepath.Join(j.cfg.Dir, secretsName)
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		err = syncDir(j.cfg.Dir)
	}
	if err != nil {
		return err
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, file := range files {
		id := file.Name()
		b, known := backends[id]
		if !known || b.Begun {
			j.dropSecrets([]string{id})
			continue
		}
		if b.Spawn.Executable, err = os.ReadFile(filepath.Join(dir, id)); err != nil {
			return err
		}
		backends[id] = b
		j.secrets[id] = b.Spawn.Executable
	}
	return nil
}

// keepSecrets writes the secrets of what a batch takes on. What a commit that failed has
// written stays: it may have been committed all the same.
func (j *Journal) keepSecrets(batch *pending) error {
	written := false
	for id, c := range batch.backends {
		if len(c.secret) == 0 || c.begun() || bytes.Equal(c.secret, j.secrets[id]) {
			continue
		}
		if err := writeSynced(filepath.Join(j.cfg.Dir, secretsName, id), c.secret); err != nil {
			return fmt.Errorf("keep the secrets of %s: %w", id, err)
		}
		j.secrets[id], written = c.secret, true
	}
	if !written {
		return nil
	}
	return syncDir(filepath.Join(j.cfg.Dir, secretsName))
}

// dropSecrets removes the secrets of backends. What cannot be removed is when the journal is opened again.
func (j *Journal) dropSecrets(ids []string) {
	for _, id := range ids {
		err := os.Remove(filepath.Join(j.cfg.Dir, secretsName, id))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			j.cfg.Log.WarnContext(context.Background(), "cannot remove the secrets of a backend that needs them no more", "backend_id", id, "err", err)
		}
		delete(j.secrets, id)
	}
}

// needless are the backends of a batch that is committed whose secrets are of no use any more.
func (j *Journal) needless(batch *pending) (ids []string) {
	for id := range j.secrets {
		if c := batch.backends[id]; c != nil && (c.begun() || c.spawn != nil && len(c.secret) == 0) {
			ids = append(ids, id)
		}
	}
	return ids
}

func writeSynced(path string, text []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}
