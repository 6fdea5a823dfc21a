package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
)

// Reader follows what an agent writes, from another process. One goroutine uses it.
type Reader struct {
	// Drone is whose journal it is; "" before there was one.
	Drone string
	// Backends are those of which something may run, with what is known of it: without the texts.
	Backends map[string]State
	// Left are those that the file before this one had and this one does not name, with the lease that they had: perhaps
	// somebody restored the directory, or began it anew, while they ran.
	Left map[string]State
	// Lease is that of those that have none of their own.
	Lease Lease

	dir, boot string
	// told says that the lease was read once.
	told    bool
	file    *os.File
	at      int64
	damaged int
	// foreign says that it is of another boot.
	foreign bool
}

// NewReader makes a Reader of a data directory, for what was written in a boot.
func NewReader(dir, boot string) *Reader {
	return &Reader{dir: dir, boot: boot, Backends: map[string]State{}, Left: map[string]State{}}
}

// Close lets go of the file.
func (r *Reader) Close() {
	if r.file != nil {
		_ = r.file.Close()
	}
}

// Until is until when a backend may live.
func (r *Reader) Until(s State) Lease {
	switch {
	case s.Own != nil:
		return *s.Own
	case !r.told:
		return Lease{SoftAtMS: math.MaxInt64 / 1_000_000, HardAtMS: math.MaxInt64 / 1_000_000}
	}
	return r.Lease
}

// Read takes in what is new. After an error what was read before is still there, and what could be
// read now is too.
func (r *Reader) Read() error {
	for {
		before, beforeErr := readLease(r.dir, r.boot)
		err := r.follow()
		after, afterErr := readLease(r.dir, r.boot)
		if leaseErr := errors.Join(beforeErr, afterErr); leaseErr != nil {
			return errors.Join(err, leaseErr) // it may be half written: the one before is gone by
		}
		// What it says holds for what the journal said meanwhile: a backend that was taken on under
		// a lease has not the one before.
		if r.Lease, r.told = after, true; after == before || err != nil {
			return err
		}
	}
}

func (r *Reader) follow() error {
	path := filepath.Join(r.dir, fileName)
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && r.file == nil:
		return nil // no agent was here yet
	case err != nil && r.file == nil:
		return err
	case err == nil:
		if err := r.open(path, info); err != nil {
			return err
		}
	}
	if info, err = r.file.Stat(); err == nil && info.Size() < r.at {
		err = r.begin(r.file) // what was written in half was taken back, or somebody has cut it short
	}
	if err != nil {
		return err
	}
	r.at, err = scan(r.file, r.at, func(_ int64, text []byte) {
		var l record
		if parse(text, &l) != nil {
			r.damaged++
			return
		}
		r.take(l)
	})
	if err == nil && r.damaged > 0 {
		err = fmt.Errorf("%d records of the journal in %s are damaged: restart the drone's agent", r.damaged, r.dir)
	}
	return err
}

// open begins with the file that has the name now, if it is not the one that is read.
func (r *Reader) open(path string, now os.FileInfo) error {
	if r.file != nil {
		if is, err := r.file.Stat(); err == nil && os.SameFile(is, now) {
			return nil
		}
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	if err := r.begin(file); err != nil {
		_ = file.Close()
		return err
	}
	return nil
}

// begin begins with a file. After an error the one before is gone on with.
func (r *Reader) begin(file *os.File) error {
	h, err := head(file)
	if err == nil && h.Version != version {
		err = fmt.Errorf("it is of version %d, this program reads %d", h.Version, version)
	}
	if err != nil {
		return fmt.Errorf("the journal in %s: %w: restart the drone's agent", r.dir, err)
	}
	if r.file != file {
		r.Close()
	}
	for id, state := range r.Backends {
		own := r.Until(state)
		state.Own = &own
		r.Left[id] = state
	}
	r.file, r.at, r.damaged = file, 0, 0
	r.Drone, r.foreign, r.Backends = h.Drone, h.Boot != r.boot, map[string]State{}
	return nil
}

func (r *Reader) take(l record) {
	_, known := r.Backends[l.ID]
	switch {
	case r.foreign:
	case l.Spawn != nil:
		delete(r.Left, l.ID)
		r.Backends[l.ID] = State{}
	case l.Over:
		delete(r.Backends, l.ID)
	case l.State != nil && known:
		l.State.Message = ""
		r.Backends[l.ID] = *l.State
	}
}
