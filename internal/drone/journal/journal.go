package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/jetway-project/jetway/internal/mutant"
	"github.com/jetway-project/jetway/messages"
)

const (
	// lifeRoom is what is reserved for what may be noted of one backend's life.
	lifeRoom = 4 << 10
	// compactFrom is the size from which a journal is written anew when half of it is of the past.
	compactFrom = 1 << 20
)

// Backend is what an agent has to know of a backend to look after it again.
type Backend struct {
	// Spawn is as the drone took it, once it has begun without what must not stay on a disk.
	Spawn messages.Spawn
	State
}

// State is what changes of a backend.
type State struct {
	Status messages.Status `json:"status"`
	// Reason and Message say why it is to end, once it is.
	Reason  messages.TerminationReason `json:"reason,omitempty"`
	Message string                     `json:"message,omitempty"`
	// Begun says that the runtime may have started it.
	Begun bool `json:"begun,omitempty"`
	// Handle and Address are the instance's, once there is one.
	Handle  string `json:"handle,omitempty"`
	Address string `json:"address,omitempty"`
	// PID is the process whose end is the backend's, with the time of its start in clock ticks
	// since boot; 0: not known (yet). Group is the cgroup that it runs in, if it has one.
	PID   int    `json:"pid,omitempty"`
	Start uint64 `json:"start,omitempty"`
	Group string `json:"group,omitempty"`
	// Cluster is what its processes and containers carry as the cluster of their drone; "": perhaps none, from an earlier build.
	Cluster string `json:"cluster,omitempty"`
	// Spare is the id under which it was started, where that is not its own: it was a spare, which it claimed.
	Spare string `json:"spare,omitempty"`
	// Nap is the greatest that it was asked for, and Asleep says that it may be frozen.
	Nap    int64 `json:"nap,omitempty"`
	Asleep bool  `json:"asleep,omitempty"`
	// Own is its lease, where that is not the one of all.
	Own *Lease `json:"own,omitempty"`
}

// Change is what is noted at once, of one backend.
type Change struct {
	BackendID string
	// Spawn is set when the backend is taken on.
	Spawn *messages.Spawn
	// Secret is the spawn's executable, if the one in Spawn lacks something that must not
	// stay on a disk. It is kept until the backend has begun.
	Secret json.RawMessage
	// State is its new state, if it is not nil.
	State *State
	// Over says that it has ended: it is forgotten.
	Over bool
	// Report is a state to tell the workers, until that is Answered.
	Report *messages.Report
}

// Unreported is a state that no worker has answered for.
type Unreported struct {
	Mark Mark
	messages.Report
}

// Contents are what a journal had when it was opened.
type Contents struct {
	Backends map[string]Backend
	// Reports are in the order in which they were noted.
	Reports []Unreported
	// Lease is that of the backends that have none of their own.
	Lease Lease
	// SetAside is where the file was moved of which not all could be used; "" if it could.
	SetAside string
}

// Config says where a journal is. Dir, Drone and Boot have no default.
type Config struct {
	// Dir is the drone's data directory; made if it is not there.
	Dir string
	// Drone is the name of the drone that it belongs to, Machine the id of the machine, and
	// Boot that of its boot.
	Drone, Machine, Boot string
	// OnChange is called, if set, when the journal begins or ceases to fail; it must not wait.
	OnChange func()
	// Log is silent by default.
	Log *slog.Logger
}

// Journal is an open journal. Make one with [Open]. Its methods may be called from several
// goroutines, and under locks: they write to the kernel's memory and wait for no disk.
type Journal struct {
	cfg  Config
	path string
	lock *os.File

	mu   sync.Mutex
	file *os.File
	// size is what is written, rest what is to follow and could not be, room what is reserved.
	size, room int64
	rest       []byte
	// live is what is needed of the file.
	live index
	last Mark
	// compacted is the size after it was last written anew.
	compacted int64
	// err says why the journal fails; need is the room that there was not for what was refused last.
	err  error
	need int64
	// untold says why the lease could not be written down.
	untold error
}

// Take notes a backend that is taken on, with its first state, or nothing: then it must not be
// taken on.
func (j *Journal) Take(c Change) (Mark, error) {
	if j == nil {
		return 0, nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	lines, spawn, mark := j.encode(c)
	need := int64(len(lines) + len(c.Secret))
	err := j.write(false) // what was noted before it
	if err == nil {
		err = j.reserve(need)
	}
	if err == nil && len(c.Secret) > 0 {
		err = j.keepSecret(c.BackendID, c.Secret)
	}
	at := j.end()
	if err == nil {
		j.rest = append(j.rest, lines...)
		if err = j.write(false); err != nil {
			err = errors.Join(err, j.file.Truncate(at)) // half of it
			j.size, j.rest = at, nil
		}
	}
	if err != nil {
		j.dropSecret(c.BackendID)
		j.need = need
		j.settle(err)
		return 0, fmt.Errorf("journal %s: %w", j.path, err)
	}
	j.need = 0
	j.settle(nil)
	j.last = max(j.last, mark)
	j.live.add(at, spawn, record{ID: c.BackendID, Spawn: lines[:0]})
	j.live.add(at+int64(spawn), len(lines)-spawn, record{ID: c.BackendID, State: c.State, Mark: mark, Report: c.Report})
	j.compactIfDue()
	return mark, nil
}

// Note notes what has become of a backend, and gives the mark of its report.
func (j *Journal) Note(c Change) Mark {
	if j == nil {
		return 0
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	c.Spawn = nil
	text, _, mark := j.encode(c)
	j.last = max(j.last, mark)
	j.append(text, record{ID: c.BackendID, State: c.State, Over: c.Over, Mark: mark, Report: c.Report})
	if c.Over || c.State != nil && c.State.Begun {
		j.dropSecret(c.BackendID)
	}
	return mark
}

// Answered says that workers have answered for reports: they are forgotten.
func (j *Journal) Answered(reports []Mark) {
	if j == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	r := record{}
	for _, mark := range reports {
		if _, ok := j.live.reports[mark]; ok {
			r.Answered = append(r.Answered, mark)
		}
	}
	if len(r.Answered) > 0 {
		j.append(line(r), r)
	}
}

// encode gives the lines of a change, the length of that of its spawn, and the mark of its report.
func (j *Journal) encode(c Change) (lines []byte, spawn int, mark Mark) {
	if c.Spawn != nil {
		lines = line(record{ID: c.BackendID, Spawn: messages.Encode(c.Spawn)})
	}
	if c.Report != nil {
		mark = j.last + 1
	}
	return append(lines, line(record{ID: c.BackendID, State: c.State, Over: c.Over, Mark: mark, Report: c.Report})...), len(lines), mark
}

// end is where the next line begins.
func (j *Journal) end() int64 { return j.size + int64(len(j.rest)) }

func (j *Journal) append(text []byte, r record) {
	j.live.add(j.end(), len(text), r)
	j.rest = append(j.rest, text...)
	if err := j.write(false); err != nil || j.need == 0 {
		j.settle(err)
	}
	j.compactIfDue()
}

// write writes what is to follow.
func (j *Journal) write(atLast bool) error {
	if j.file == nil {
		return ErrClosed
	}
	size, err := sizeOf(j.file)
	switch {
	case err != nil:
		return err
	case size != j.size:
		return fmt.Errorf("somebody else has changed it, it has %d bytes and not %d: restart the agent", size, j.size)
	case len(j.rest) == 0, mutant.On(mutant.AckUnjournalled) && !atLast && len(j.rest) < compactFrom:
		return nil
	}
	n, err := j.file.WriteAt(j.rest, j.size)
	if err != nil { // some of it may be written all the same
		if size, sizeErr := sizeOf(j.file); sizeErr == nil {
			n = int(min(max(size-j.size, 0), int64(len(j.rest))))
		}
	}
	j.size += int64(n)
	if j.rest = j.rest[n:]; len(j.rest) == 0 {
		j.rest = nil
	}
	return err
}

func sizeOf(file *os.File) (int64, error) {
	info, err := file.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// reserve makes sure of the room for so many bytes, and for what may be noted of all backends.
func (j *Journal) reserve(bytes int64) error {
	want := j.size + bytes + lifeRoom*int64(len(j.live.backends)+1)
	if want <= j.room {
		return nil
	}
	if err := allocate(j.file, want); err != nil {
		return fmt.Errorf("make room in it: %w", err)
	}
	j.room = want
	return nil
}

func (j *Journal) settle(err error) {
	changed := (err == nil) != (j.err == nil)
	if j.err = err; changed && j.cfg.OnChange != nil {
		j.cfg.OnChange()
	}
}

// Failing tries again what could not be written, and says why it cannot; nil when all is written
// and what was refused last would have room now.
func (j *Journal) Failing() error {
	if j == nil {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err == nil {
		return j.untold
	}
	err := j.write(false)
	if err == nil {
		err = j.reserve(j.need)
	}
	if err == nil {
		j.need = 0
	}
	j.settle(err)
	return err
}

// Renew writes down until when the backends may live that have no lease of their own. After an
// error the guard goes by the one before, and the journal is Failing.
func (j *Journal) Renew(l Lease) error {
	if j == nil {
		return nil
	}
	err := WriteNote(filepath.Join(j.cfg.Dir, leaseName), leaseNote{Boot: j.cfg.Boot, Lease: l})
	j.mu.Lock()
	defer j.mu.Unlock()
	j.untold = err
	return err
}

// ErrClosed says that the journal is closed.
var ErrClosed = errors.New("the journal is closed")

// Close writes what could not be written, if it can be now, and lets go of the directory. It may
// be called twice.
func (j *Journal) Close() error {
	if j == nil {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file == nil {
		return nil
	}
	err := j.write(true)
	if err != nil {
		err = fmt.Errorf("journal %s: not all could be written: %w", j.path, err)
	}
	err = errors.Join(err, j.file.Close(), j.lock.Close())
	j.file = nil
	return err
}

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
