package guard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"time"

	"github.com/jetway-project/jetway/internal/boottime"
)

const (
	// look is how often the ledger is read when no deadline is nearer, which is also
	// as often as the clock is looked at: timers stand still in a suspend.
	look = boottime.MaxNap
	// lookAgain is how soon the guard looks after what it has killed.
	lookAgain = 50 * time.Millisecond
	// lookLate is how often it looks whether anything of an ended backend has turned up.
	lookLate = 10 * time.Second
	// complain is how often it says that something cannot be ended.
	complain = 30 * time.Second
	// readTries bounds the tries to read a slot while the agent writes it.
	readTries = 3
)

// guardian is one run of a guard.
type guardian struct {
	log    *slog.Logger
	clock  boottime.Clock
	ledger *os.File
	boot   string
	buffer []byte
	// killing are the backends past their deadline of which something was left at the
	// last look; ended those of which nothing was.
	killing map[string]killing
	ended   map[string]ending
	// agent says whether one held the ledger at the last look.
	agent bool
	// trouble is what was last said to be wrong with the ledger.
	trouble string
}

type killing struct{ since, saidAt time.Duration }

type ending struct{ lookAt time.Duration }

// guard looks until ctx ends, or nobody needs it any more.
func (g *guardian) guard(ctx context.Context, afterLook func()) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			g.log.InfoContext(ctx, "asked to go")
			return
		case <-timer.C:
		}
		// Before the ledger is read: what an agent that goes in between has written is
		// read then.
		held, err := isLocked(g.ledger)
		if err != nil {
			held = true // it stays
			g.log.ErrorContext(ctx, "cannot look for the agent", "err", err)
		}
		if held != g.agent {
			g.agent = held
			g.log.InfoContext(ctx, "the agent has come or gone", "agent", held)
		}
		next, needed := g.round(ctx)
		if !held && !needed {
			g.log.InfoContext(ctx, "no agent, and nothing left to end: going")
			return
		}
		afterLook()
		timer.Reset(min(g.clock.Nap(next), look))
	}
}

// round reads the ledger once and ends what is past its hard deadline. It gives the
// time when to look next, and whether there is anything that it may still have to end.
func (g *guardian) round(ctx context.Context) (next time.Duration, needed bool) {
	leases, drone, err := g.read()
	g.tell(ctx, err)
	if err != nil && !errors.Is(err, errUnusable) {
		return math.MaxInt64, true // what it says is not known
	}
	now := g.clock()
	next = math.MaxInt64
	past, due := map[string]bool{}, map[string]Lease{}
	for _, lease := range leases {
		id, hard := lease.BackendID, time.Duration(lease.HardAtMS)*time.Millisecond
		switch ended, ok := g.ended[id]; {
		case now < hard:
			next, needed = min(next, hard), true
		case ok && now < ended.lookAt:
			past[id] = true
		default:
			past[id], due[id] = true, lease
		}
	}
	g.forget(past)
	if len(due) == 0 {
		return next, needed
	}
	left, failed := kill(drone, due)
	for id, lease := range due {
		if left[id] == 0 && failed == nil {
			g.nothingLeft(ctx, lease, now)
			continue
		}
		next, needed = min(next, now+lookAgain), true
		g.somethingLeft(ctx, lease, now, left[id], failed)
	}
	return next, needed
}

// forget drops what was known of backends that are not past their deadline any more.
func (g *guardian) forget(past map[string]bool) {
	for id := range g.ended {
		if !past[id] {
			delete(g.ended, id)
		}
	}
	for id := range g.killing {
		if !past[id] {
			delete(g.killing, id)
		}
	}
}

func (g *guardian) somethingLeft(ctx context.Context, lease Lease, now time.Duration, processes int, failed error) {
	id := lease.BackendID
	delete(g.ended, id)
	k, known := g.killing[id]
	if known && now-k.saidAt < complain {
		return
	}
	if !known {
		k.since = now
	}
	k.saidAt = now
	g.killing[id] = k
	late := now - time.Duration(lease.HardAtMS)*time.Millisecond
	g.log.WarnContext(ctx, "killing a backend past the hard deadline of its lease",
		"backend_id", id, "pid", lease.PID, "processes", processes, "late", late, "err", failed)
}

func (g *guardian) nothingLeft(ctx context.Context, lease Lease, now time.Duration) {
	id := lease.BackendID
	g.ended[id] = ending{lookAt: now + lookLate}
	if k, known := g.killing[id]; known {
		delete(g.killing, id)
		g.log.WarnContext(ctx, "killed a backend past the hard deadline of its lease", "backend_id", id, "took", now-k.since)
	}
}

// tell logs what is wrong with the ledger, once.
func (g *guardian) tell(ctx context.Context, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != g.trouble && err != nil {
		g.log.ErrorContext(ctx, "cannot go by all of the leases", "err", err)
	}
	g.trouble = text
}

// errUnusable says that the ledger, or a slot of it, is not one to go by, and that
// looking again will not help.
var errUnusable = errors.New("not usable")

// read returns the leases of this boot. With an error that is errUnusable it returns
// those that are usable.
func (g *guardian) read() (leases []Lease, drone string, err error) {
	for range readTries {
		leases, drone, err = g.readOnce()
		if err == nil {
			break
		}
	}
	return leases, drone, err
}

func (g *guardian) readOnce() (leases []Lease, drone string, err error) {
	info, err := g.ledger.Stat()
	if err != nil {
		return nil, "", err
	}
	size := int(min(info.Size(), maxLedger))
	if cap(g.buffer) < size {
		g.buffer = make([]byte, size)
	}
	n, err := g.ledger.ReadAt(g.buffer[:size], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, "", err
	}
	image := g.buffer[:n]
	h, err := decodeHeader(image)
	if err != nil {
		return nil, "", fmt.Errorf("the header: %w (%w)", err, errUnusable)
	}
	if h.boot != g.boot {
		return nil, h.drone, nil // its deadlines and processes mean nothing now
	}
	torn := 0
	for slot := slotSize; slot+slotSize <= len(image); slot += slotSize {
		lease, used, err := decode(image[slot : slot+slotSize])
		switch {
		case err != nil:
			torn++
		case used:
			leases = append(leases, lease)
		}
	}
	if torn > 0 {
		err = fmt.Errorf("%d slots are half written or damaged (%w)", torn, errUnusable)
	} else {
		err = nil
	}
	return leases, h.drone, err
}
