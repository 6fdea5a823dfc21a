package journal

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// index says what is needed of a journal's file, and where it is.
type index struct {
	backends map[string]*places
	reports  map[Mark]place
	// secrets are whose are on the disk.
	secrets map[string]struct{}
}

type places struct{ spawn, state place }

// place is that of a line.
type place struct {
	at   int64
	size int
}

func newIndex() index {
	return index{backends: map[string]*places{}, reports: map[Mark]place{}, secrets: map[string]struct{}{}}
}

// add takes in a line. What it says of a backend that is not there, which has ended, is nothing.
func (x *index) add(at int64, size int, r record) {
	p := place{at, size}
	switch b := x.backends[r.ID]; {
	case r.Spawn != nil:
		x.backends[r.ID] = &places{spawn: p}
	case r.Over:
		delete(x.backends, r.ID)
	case r.State != nil && b != nil:
		b.state = p
	}
	if r.Report != nil {
		x.reports[r.Mark] = p
	}
	for _, mark := range r.Answered {
		delete(x.reports, mark)
	}
}

// Open opens the journal of a data directory, and makes it if there is none. It
// fails at once when another agent uses the directory.
func Open(cfg Config) (*Journal, Contents, error) {
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	if err := os.MkdirAll(filepath.Join(cfg.Dir, secretsName), 0o700); err != nil {
		return nil, Contents{}, fmt.Errorf("data directory: %w", err)
	}
	lock, err := lockDir(cfg.Dir)
	if err != nil {
		return nil, Contents{}, err
	}
	j := &Journal{cfg: cfg, path: filepath.Join(cfg.Dir, fileName), lock: lock, live: newIndex()}
	contents, err := j.open()
	if err == nil {
		err = j.loadSecrets(contents.Backends)
	}
	if err != nil {
		if j.file != nil {
			_ = j.file.Close()
		}
		_ = lock.Close()
		return nil, Contents{}, fmt.Errorf("journal %s: %w", j.path, err)
	}
	if contents.Lease, err = readLease(cfg.Dir, cfg.Boot); err != nil { // it counts as past
		cfg.Log.Error("until when what runs may live cannot be told: it is ended", "file", filepath.Join(cfg.Dir, leaseName), "err", err)
	}
	return j, contents, nil
}

// open reads the file, or begins a new one where it says nothing about what runs here.
func (j *Journal) open() (c Contents, err error) {
	c.Backends = map[string]Backend{}
	j.file, err = os.OpenFile(j.path, os.O_RDWR, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return c, j.compact()
	}
	if err != nil {
		return c, err
	}
	h, err := head(j.file)
	switch {
	case err != nil:
		err = fmt.Errorf("its first line cannot be used: %w", err)
	case h.Version != version:
		err = fmt.Errorf("it is of version %d, this program reads %d", h.Version, version)
	case h.Drone != j.cfg.Drone:
		return c, fmt.Errorf("it is of drone %s, not %s; give each drone a data directory of its own (to rename one, drain it and remove its directory)", h.Drone, j.cfg.Drone)
	case h.Boot != j.cfg.Boot || h.Machine != j.cfg.Machine:
		j.cfg.Log.Info("the journal is of an earlier start of the machine, or of another one: nothing of it runs here, a new one is begun", "file", j.path)
		return c, j.compact()
	default:
		err = j.read(&c)
	}
	if err == nil {
		return c, nil
	}
	c.SetAside = j.setAside(err, len(c.Backends))
	if err = j.compact(); err != nil && j.size > 0 { // a full disk: the file is used as it is
		err = j.file.Truncate(j.size)
	}
	return c, err
}

// setAside keeps a file of which not all can be used.
func (j *Journal) setAside(why error, used int) (aside string) {
	aside = j.path + ".damaged-" + time.Now().UTC().Format("20060102T150405.000Z")
	kept := os.Link(j.path, aside)
	j.cfg.Log.Error("the journal is damaged: it is set aside, and what can be read of it is used; what else still runs is ended",
		"file", j.path, "set_aside", aside, "backends", used, "damage", why, "err", kept)
	return aside
}

// read reads all that can be read of the file; the error says that something cannot.
func (j *Journal) read(c *Contents) error {
	damaged := 0
	end, err := scan(j.file, 0, func(at int64, text []byte) {
		var r record
		if parse(text, &r) != nil {
			damaged++
			return
		}
		j.live.add(at, len(text), r)
		j.last = max(j.last, r.Mark)
	})
	for id, lines := range j.live.backends {
		var b Backend
		_, r, err := j.lineAt(lines.spawn)
		if err == nil {
			err = json.Unmarshal(r.Spawn, &b.Spawn)
		}
		if _, r, stateErr := j.lineAt(lines.state); err == nil && stateErr == nil && r.State != nil {
			b.State = *r.State
		}
		if err != nil {
			damaged++
			delete(j.live.backends, id)
			continue
		}
		c.Backends[id] = b
	}
	for mark, p := range j.live.reports {
		if _, r, err := j.lineAt(p); err == nil {
			c.Reports = append(c.Reports, Unreported{Mark: mark, Report: *r.Report})
		}
	}
	slices.SortFunc(c.Reports, func(a, b Unreported) int { return cmp.Compare(a.Mark, b.Mark) })
	j.size, j.room = end, end
	info, statErr := j.file.Stat()
	if err = errors.Join(err, statErr); err != nil {
		return err
	}
	if left := info.Size() - end; left > 0 || damaged > 0 {
		return fmt.Errorf("%d records are damaged, and %d bytes at the end are not whole", damaged, left)
	}
	return nil
}

// lineAt is the line at a place.
func (j *Journal) lineAt(p place) (text []byte, r record, err error) {
	text = make([]byte, p.size)
	if _, err = j.file.ReadAt(text, p.at); err == nil {
		err = parse(text, &r)
	}
	return text, r, err
}

func (j *Journal) compactIfDue() {
	if len(j.rest) > 0 || j.size < compactFrom+2*j.compacted {
		return
	}
	if err := j.compact(); err != nil { // the disk may be full; the file goes on growing
		j.compacted = j.size
	}
}

// compact writes what is needed to a new file, which takes the place of the one before. Lines keep
// their order.
func (j *Journal) compact() (err error) {
	file, err := os.OpenFile(j.path+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = file.Close()
			_ = os.Remove(j.path + ".new")
		}
	}()
	live, size := newIndex(), int64(0)
	live.secrets = j.live.secrets
	out := bufio.NewWriterSize(file, 64<<10)
	put := func(text []byte, r record) error {
		live.add(size, len(text), r)
		size += int64(len(text))
		_, err := out.Write(text)
		return err
	}
	first := record{Version: version, Drone: j.cfg.Drone, Machine: j.cfg.Machine, Boot: j.cfg.Boot}
	if err := put(line(first), first); err != nil {
		return err
	}
	for _, p := range j.live.inOrder() {
		text, r, err := j.lineAt(p)
		if err != nil {
			return err
		}
		if r.Spawn == nil { // what of it is needed still
			b := j.live.backends[r.ID]
			if b == nil || b.state != p {
				r.State = nil
			}
			if j.live.reports[r.Mark] != p {
				r.Mark, r.Report = 0, nil
			}
			r.Over = false
			text = line(r)
		}
		if err := put(text, r); err != nil {
			return err
		}
	}
	if err := out.Flush(); err != nil {
		return err
	}
	if err := os.Rename(j.path+".new", j.path); err != nil {
		return err
	}
	if j.file != nil {
		_ = j.file.Close()
	}
	j.file, j.live, j.size, j.room, j.compacted = file, live, size, size, size
	_ = j.reserve(0) // what runs has its room, if there is any
	return nil
}

// inOrder are the lines that are needed.
func (x *index) inOrder() []place {
	lines := make([]place, 0, 2*len(x.backends)+len(x.reports))
	for _, b := range x.backends {
		if lines = append(lines, b.spawn); b.state.size > 0 {
			lines = append(lines, b.state)
		}
	}
	for _, p := range x.reports {
		lines = append(lines, p)
	}
	slices.SortFunc(lines, func(a, b place) int { return cmp.Compare(a.at, b.at) })
	return slices.Compact(lines)
}

// loadSecrets completes the spawns that have not begun, and removes what is there of others.
func (j *Journal) loadSecrets(backends map[string]Backend) error {
	files, err := os.ReadDir(filepath.Join(j.cfg.Dir, secretsName))
	if err != nil {
		return err
	}
	for _, file := range files {
		id := file.Name()
		j.live.secrets[id] = struct{}{}
		b, known := backends[id]
		if !known || b.Begun {
			j.dropSecret(id)
			continue
		}
		if b.Spawn.Executable, err = os.ReadFile(j.secretPath(id)); err != nil {
			return err
		}
		backends[id] = b
	}
	return nil
}

const secretsName = "secrets"

func (j *Journal) secretPath(id string) string { return filepath.Join(j.cfg.Dir, secretsName, id) }

func (j *Journal) keepSecret(id string, text []byte) error {
	j.live.secrets[id] = struct{}{}
	if err := os.WriteFile(j.secretPath(id), text, 0o600); err != nil {
		return fmt.Errorf("keep the secrets of its start: %w", err)
	}
	return nil
}

// dropSecret removes what a start needed, if there is something. What cannot be removed now is
// when the journal is opened again.
func (j *Journal) dropSecret(id string) {
	if _, ok := j.live.secrets[id]; ok {
		delete(j.live.secrets, id)
		_ = os.Remove(j.secretPath(id))
	}
}
