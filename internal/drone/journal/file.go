package journal

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"

	"github.com/jetway-project/jetway/messages"
)

const (
	fileName = "journal.db"
	lockName = "agent.lock"
	// version is of what is in the file.
	version = "1"
)

// The buckets. A spawn, which may be large, is written once.
var (
	bucketMeta    = []byte("meta")
	bucketSpawns  = []byte("spawns")  // backend id → messages.Spawn
	bucketStates  = []byte("states")  // backend id → State
	bucketReports = []byte("reports") // mark, big-endian → messages.Report

	keyVersion = []byte("version")
	keyDrone   = []byte("drone")
)

func pathIn(dir string) string { return filepath.Join(dir, fileName) }

// ErrInUse says that another agent uses the data directory.
var ErrInUse = errors.New("another agent is using it")

// lockDir takes the directory for this process, until the file is closed or the
// process ends, however it ends.
func lockDir(dir string) (*os.File, error) {
	file, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return file, nil
	}
	_ = file.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = fmt.Errorf("%w; give each drone of a machine a directory of its own", ErrInUse)
	}
	return nil, fmt.Errorf("data directory %s: %w", dir, err)
}

// corrupt says that a file is not what was written.
type corrupt struct{ why string }

func (e *corrupt) Error() string { return e.why }

// open opens the file and reads all of it. One that cannot be used is set aside.
func (j *Journal) open() (contents Contents, err error) {
	if _, err := os.Lstat(j.path); errors.Is(err, fs.ErrNotExist) {
		if err := j.create(); err != nil {
			return contents, err
		}
	}
	j.db, contents, err = load(j.path, j.cfg.Drone)
	bad, ok := errors.AsType[*corrupt](err)
	if !ok {
		return contents, err
	}
	aside := j.path + ".corrupt-" + time.Now().UTC().Format("20060102T150405.000Z")
	if err := os.Rename(j.path, aside); err != nil {
		return contents, fmt.Errorf("it is corrupt (%w) and cannot be set aside: %w", bad, err)
	}
	j.cfg.Log.Error("the journal is corrupt: it is set aside and a new one begun; what still runs of it is ended",
		"file", j.path, "set_aside", aside, "err", bad)
	if err := j.create(); err != nil {
		return contents, err
	}
	j.db, contents, err = load(j.path, j.cfg.Drone)
	contents.SetAside = aside
	return contents, err
}

// create makes an empty file, all of it or nothing.
func (j *Journal) create() error {
	fresh := j.path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	db, err := openFile(fresh)
	if err == nil {
		err = db.Update(func(tx *bbolt.Tx) error {
			for _, name := range [][]byte{bucketMeta, bucketSpawns, bucketStates, bucketReports} {
				if _, err := tx.CreateBucket(name); err != nil {
					return err
				}
			}
			if err := put(tx.Bucket(bucketMeta), keyVersion, version); err != nil {
				return err
			}
			return put(tx.Bucket(bucketMeta), keyDrone, j.cfg.Drone)
		})
		err = errors.Join(err, db.Close())
	}
	if err == nil {
		err = os.Rename(fresh, j.path)
	}
	if err == nil {
		err = syncDir(j.cfg.Dir)
	}
	if err != nil {
		_ = os.Remove(fresh)
		return fmt.Errorf("make it: %w", err)
	}
	return nil
}

func syncDir(dir string) error {
	file, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	return file.Sync()
}

// guarded turns panics of bbolt, which has them for pages that make no sense, into
// errors, and so faults of memory that the file is too short for.
func guarded(do func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = &corrupt{why: fmt.Sprint(r)}
		}
	}()
	return do()
}

// openFile opens a file, which is locked while it is open.
func openFile(path string) (db *bbolt.DB, err error) {
	var file *os.File
	if info, err := os.Lstat(path); err == nil && info.Size() == 0 {
		return nil, &corrupt{why: "it is empty"} // of which bbolt would make a new one
	}
	err = guarded(func() (err error) {
		db, err = bbolt.Open(path, 0o600, &bbolt.Options{
			Timeout: time.Millisecond, FreelistType: bbolt.FreelistMapType, NoStatistics: true,
			OpenFile: func(name string, flag int, mode fs.FileMode) (*os.File, error) {
				opened, err := os.OpenFile(name, flag, mode)
				file = opened
				return opened, err
			},
		})
		return err
	})
	if err != nil {
		db = nil
		if file != nil {
			_ = file.Close() // after a panic nobody else does
		}
	}
	return db, describe(err)
}

// describe tells what the system says from what the file's content is to blame for.
func describe(err error) error {
	_, isSystem := errors.AsType[syscall.Errno](err)
	_, isCorrupt := errors.AsType[*corrupt](err)
	switch {
	case err == nil, isSystem, isCorrupt:
		return err
	case errors.Is(err, bbolterrors.ErrTimeout):
		return ErrInUse
	}
	return &corrupt{why: err.Error()}
}

// load opens a file and reads all that is in it.
func load(path, drone string) (*bbolt.DB, Contents, error) {
	db, err := openFile(path)
	if err != nil {
		return nil, Contents{}, err
	}
	var contents Contents
	err = guarded(func() error {
		return db.View(func(tx *bbolt.Tx) (err error) {
			if err := checkMeta(tx, drone); err != nil {
				return err
			}
			if contents, err = read(tx); err != nil {
				return err
			}
			// Every page that is in use is there; whether what counts as free is.
			var bad error
			for err := range tx.Check() {
				bad = cmp.Or(bad, error(&corrupt{why: err.Error()}))
			}
			return bad
		})
	})
	if err != nil {
		shut(db)
		return nil, Contents{}, err
	}
	return db, contents, nil
}

// shut closes a file, but does not wait for ever: after a fault in a transaction
// bbolt may. It is not used any more then, and the lock is the directory's.
func shut(db *bbolt.DB) {
	if db == nil {
		return
	}
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		_ = db.Close()
	}()
	select {
	case <-closed:
	case <-time.After(time.Second):
	}
}

// checkMeta says whether this program may use the file.
func checkMeta(tx *bbolt.Tx, drone string) error {
	for _, name := range [][]byte{bucketMeta, bucketSpawns, bucketStates, bucketReports} {
		if tx.Bucket(name) == nil {
			return &corrupt{why: fmt.Sprintf("it has no bucket %s", name)}
		}
	}
	var theirs, of string
	meta := tx.Bucket(bucketMeta)
	if err := errors.Join(get(keyVersion, meta.Get(keyVersion), &theirs), get(keyDrone, meta.Get(keyDrone), &of)); err != nil {
		return err
	}
	if theirs != version {
		return fmt.Errorf("it is of version %s, this program reads %s; move it away to begin a new one, which ends the backends of this drone", theirs, version)
	}
	if of != drone {
		return fmt.Errorf("it is of drone %s, not %s; give each drone a data directory of its own", of, drone)
	}
	return nil
}

func read(tx *bbolt.Tx) (Contents, error) {
	contents := Contents{Backends: map[string]Backend{}}
	err := tx.Bucket(bucketSpawns).ForEach(func(k, v []byte) error {
		var b Backend
		err := get(k, v, &b.Spawn)
		if err == nil {
			err = get(k, tx.Bucket(bucketStates).Get(k), &b.State)
		}
		contents.Backends[string(k)] = b
		return err
	})
	if err != nil {
		return contents, err
	}
	states := 0
	err = tx.Bucket(bucketStates).ForEach(func(_, _ []byte) error { states++; return nil })
	if err == nil && states != len(contents.Backends) {
		err = &corrupt{why: fmt.Sprintf("it has %d states of %d backends", states, len(contents.Backends))}
	}
	if err != nil {
		return contents, err
	}
	err = tx.Bucket(bucketReports).ForEach(func(k, v []byte) error {
		if len(k) != 8 {
			return &corrupt{why: fmt.Sprintf("a report has the key %x", k)}
		}
		report := Unreported{Mark: Mark(binary.BigEndian.Uint64(k))}
		err := get(k, v, &report.Report)
		contents.Reports = append(contents.Reports, report)
		return err
	})
	return contents, err
}

// commit writes a batch, in one transaction. After an error the file is opened
// anew: what bbolt remembers of it is not trusted then.
func (j *Journal) commit(batch *pending) (err error) {
	if j.db == nil {
		if j.db, _, err = load(j.path, j.cfg.Drone); err != nil {
			return err
		}
	}
	if err := j.keepSecrets(batch); err != nil {
		return err
	}
	err = guarded(func() error {
		return j.db.Update(func(tx *bbolt.Tx) error { return write(tx, batch) })
	})
	if err == nil {
		j.dropSecrets(j.needless(batch))
		return nil
	}
	shut(j.db)
	j.db = nil
	return err
}

func write(tx *bbolt.Tx, batch *pending) error {
	spawns, states, reports := tx.Bucket(bucketSpawns), tx.Bucket(bucketStates), tx.Bucket(bucketReports)
	for id, c := range batch.backends {
		key := []byte(id)
		if c.over {
			if err := errors.Join(spawns.Delete(key), states.Delete(key)); err != nil {
				return err
			}
			continue
		}
		if c.spawn != nil {
			if err := put(spawns, key, c.spawn); err != nil {
				return err
			}
		}
		if c.state != nil {
			if err := put(states, key, c.state); err != nil {
				return err
			}
		}
	}
	for i := range batch.reports {
		if err := put(reports, keyOf(batch.reports[i].Mark), &batch.reports[i].Report); err != nil {
			return err
		}
	}
	for _, mark := range batch.answered {
		if err := reports.Delete(keyOf(mark)); err != nil {
			return err
		}
	}
	return nil
}

func keyOf(mark Mark) []byte { return binary.BigEndian.AppendUint64(nil, uint64(mark)) }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sum is the checksum of a value, which is not that of the same value elsewhere.
func sum(key, value []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
}

func put(b *bbolt.Bucket, key []byte, value any) error {
	text := messages.Encode(value)
	return b.Put(key, append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(text)), sum(key, text)), text...))
}

func get(key, value []byte, to any) error {
	if len(value) < 4 || binary.BigEndian.Uint32(value) != sum(key, value[4:]) {
		return &corrupt{why: fmt.Sprintf("the value of %q is not what was written", key)}
	}
	decoder := json.NewDecoder(bytes.NewReader(value[4:]))
	if err := decoder.Decode(to); err != nil {
		return &corrupt{why: fmt.Sprintf("the value of %q: %v", key, err)}
	}
	return nil
}
