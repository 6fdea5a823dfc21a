package guard

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"
)

const (
	ledgerName = "leases"
	// growth is by how many slots the ledger grows. They are written when it does, so
	// that a full disk refuses a spawn and not a renewal.
	growth = 255
	// maxLedger bounds, in bytes, what is read of a ledger: some 500,000 backends.
	maxLedger = 64 << 20
	// lockPatience is how long Open tries to take the directory: a process that an
	// earlier agent was just starting has it for the moment until it runs.
	lockPatience = 500 * time.Millisecond
)

// ErrHeld says that another agent uses the data directory.
var ErrHeld = errors.New("another agent holds it")

// Ledger is the agent's side of the leases file: until when its backends may live. Its
// methods may be called from several goroutines. What they have written the guard sees
// at once, and keeps seeing when this process is killed.
type Ledger struct {
	file *os.File

	mu    sync.Mutex
	image []byte // what the file holds
	slots map[string]int
	free  []int
	found []Lease
}

// Open opens the ledger in a drone's data directory, or makes one, and takes the
// directory for this process: ErrHeld when another agent has it. What an earlier agent
// of this boot has written stays, and Found tells it; what is of another boot, or
// damaged, is dropped.
func Open(dir, drone string) (*Ledger, error) {
	l, err := open(dir, drone)
	if err != nil {
		return nil, fmt.Errorf("open the leases in %s: %w", dir, err)
	}
	return l, nil
}

func open(dir, drone string) (l *Ledger, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(filepath.Join(dir, ledgerName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			file.Close()
		}
	}()
	if err := lockPatiently(file); err != nil {
		return nil, err
	}
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	l = &Ledger{file: file, slots: map[string]int{}}
	if l.image, err = io.ReadAll(io.NewSectionReader(file, 0, maxLedger)); err != nil {
		return nil, err
	}
	before, headerErr := decodeHeader(l.image)
	if headerErr != nil || before.boot != boot {
		return l, l.reset(header{drone: drone, boot: boot})
	}
	l.load()
	if before.drone == drone {
		return l, nil
	}
	if len(l.found) > 0 {
		return nil, fmt.Errorf("it is the drone %s's, which has %d backends here: use its name, or another directory", before.drone, len(l.found))
	}
	return l, l.reset(header{drone: drone, boot: boot})
}

func lockPatiently(file *os.File) error {
	again := time.NewTicker(lockPatience / 50)
	defer again.Stop()
	for began := time.Now(); ; <-again.C {
		if err := lock(file); !errors.Is(err, ErrHeld) || time.Since(began) > lockPatience {
			return err
		}
	}
}

// reset starts an empty ledger. In place, since a guard may have the file open.
func (l *Ledger) reset(h header) error {
	l.image, l.free = make([]byte, slotSize), nil
	if err := h.encode(l.image); err != nil {
		return err
	}
	if err := l.file.Truncate(0); err != nil {
		return err
	}
	if err := l.write(0, 1); err != nil {
		return err
	}
	return l.grow()
}

// load takes in what an earlier agent wrote. A torn slot is free again.
func (l *Ledger) load() {
	l.image = l.image[:len(l.image)/slotSize*slotSize]
	for n := len(l.image)/slotSize - 1; n > 0; n-- {
		lease, used, err := decode(l.slot(n))
		if err != nil || !used {
			clear(l.slot(n))
			l.free = append(l.free, n)
			continue
		}
		l.slots[lease.BackendID] = n
		l.found = append(l.found, lease)
	}
}

// Found is what was in the ledger when it was opened.
func (l *Ledger) Found() []Lease { return l.found }

// Put writes a backend's lease: before the start with no PID, and again once there is
// one, before which the process must not have been reaped. An error means that the
// guard does not know it: then it must not run.
func (l *Ledger) Put(lease Lease) error {
	if err := l.put(lease); err != nil {
		return fmt.Errorf("write the lease of %s down: %w", lease.BackendID, err)
	}
	return nil
}

func (l *Ledger) put(lease Lease) error {
	switch {
	case lease.BackendID == "" || len(lease.BackendID) > textSize:
		return fmt.Errorf("the backend's id must have 1 to %d bytes", textSize)
	case lease.HardAtMS <= 0 || lease.PID < 0:
		return fmt.Errorf("hard deadline %d, process %d: neither may be negative, nor the first 0", lease.HardAtMS, lease.PID)
	}
	if lease.PID != 0 {
		start, ok, err := startOf(lease.PID)
		if err != nil {
			return err
		}
		if lease.start = start; !ok {
			lease.PID = 0 // it has ended; its children have not
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	n, ok := l.slots[lease.BackendID]
	if !ok {
		if len(l.free) == 0 {
			if err := l.grow(); err != nil {
				return err
			}
		}
		n = l.free[len(l.free)-1]
	}
	encode(l.slot(n), lease)
	if err := l.write(n, n+1); err != nil {
		if !ok {
			clear(l.slot(n))
		}
		return err
	}
	if !ok {
		l.free = l.free[:len(l.free)-1]
		l.slots[lease.BackendID] = n
	}
	return nil
}

// Renew moves deadlines, in one write for all of them; what the leases say of processes
// is ignored, and so is a backend that is not in the ledger. After an error the guard
// goes by the old deadlines.
func (l *Ledger) Renew(leases []Lease) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	from, to := len(l.image)/slotSize, 0
	for _, lease := range leases {
		n, ok := l.slots[lease.BackendID]
		if !ok || lease.HardAtMS <= 0 {
			continue
		}
		now, _, err := decode(l.slot(n))
		if err != nil {
			continue
		}
		now.SoftAtMS, now.HardAtMS = lease.SoftAtMS, lease.HardAtMS
		encode(l.slot(n), now)
		from, to = min(from, n), max(to, n+1)
	}
	if from >= to {
		return nil
	}
	if err := l.write(from, to); err != nil {
		return fmt.Errorf("write renewed leases down: %w", err)
	}
	return nil
}

// Remove takes a backend out, of which nothing runs any more. It may be called twice.
func (l *Ledger) Remove(backendID string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, ok := l.slots[backendID]
	if !ok {
		return nil
	}
	clear(l.slot(n))
	if err := l.write(n, n+1); err != nil {
		return fmt.Errorf("take the lease of %s out: %w", backendID, err)
	}
	delete(l.slots, backendID)
	l.free = append(l.free, n)
	return nil
}

// Close lets go of the data directory. What is written stays, for the guard and for the
// next agent.
func (l *Ledger) Close() error { return l.file.Close() }

func (l *Ledger) slot(n int) []byte { return l.image[n*slotSize : (n+1)*slotSize] }

// write writes the slots from..to-1 in one go.
func (l *Ledger) write(from, to int) error {
	_, err := l.file.WriteAt(l.image[from*slotSize:to*slotSize], int64(from*slotSize))
	return err
}

func (l *Ledger) grow() error {
	have := len(l.image) / slotSize
	if (have+growth)*slotSize > maxLedger {
		return fmt.Errorf("there are %d backends in it, and no room for more", have-1)
	}
	l.image = append(l.image, make([]byte, growth*slotSize)...)
	if err := l.write(have, have+growth); err != nil {
		l.image = l.image[:have*slotSize]
		return err
	}
	for n := have + growth - 1; n >= have; n-- {
		l.free = append(l.free, n)
	}
	return nil
}
