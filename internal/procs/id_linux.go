package procs

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrGone says that a process has ended and been reaped, or that its number is
// another's now.
var ErrGone = errors.New("the process is gone")

// ID is one process of this boot, never another one that got its number later.
type ID struct {
	PID int
	// Start is the time of its start, in clock ticks since boot.
	Start uint64
}

// Tick is the unit of times in /proc: USER_HZ, which is 100 a second on every architecture of Linux.
const Tick = 10 * time.Millisecond

// Stat is what /proc tells of a process at one moment.
type Stat struct {
	ID
	// Zombie says that it has ended and is not reaped yet.
	Zombie bool
	// CPUTicks is its processor time and that of the children that it has reaped, in
	// clock ticks; RSSPages is its resident memory.
	CPUTicks, RSSPages uint64
	// ExitStatus, of a zombie, is its wait status; 0 where it may not be read.
	ExitStatus syscall.WaitStatus
}

// Identify returns the ID of the process that has the number now, or ErrGone.
func Identify(pid int) (ID, error) {
	stat, err := Read(pid)
	return stat.ID, err
}

// Read returns what /proc/PID/stat says, or ErrGone.
func Read(pid int) (Stat, error) {
	var buffer [1024]byte
	raw, err := slurp(buffer[:0], pid, "stat")
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) {
		return Stat{}, ErrGone
	}
	if err != nil {
		return Stat{}, fmt.Errorf("look at process %d: %w", pid, err)
	}
	stat, ok := parse(raw)
	if !ok || stat.PID != pid {
		return Stat{}, fmt.Errorf("look at process %d: cannot make out %.200q", pid, raw)
	}
	return stat, nil
}

// Where fields are after the name, which may hold anything, `)` too: 3 less than their
// numbers in proc(5).
const (
	fieldState  = 0
	fieldUTime  = 11
	fieldCSTime = 14
	fieldStart  = 19
	fieldRSS    = 21
	fieldExit   = 49
)

func parse(raw []byte) (stat Stat, ok bool) {
	number, _, ok := bytes.Cut(raw, []byte(" ("))
	end := bytes.LastIndex(raw, []byte(") "))
	if !ok || end < 0 {
		return stat, false
	}
	fields := bytes.Fields(raw[end+2:])
	if len(fields) <= fieldExit {
		return stat, false
	}
	get := func(raw []byte) int64 {
		n, err := strconv.ParseInt(string(raw), 10, 64)
		ok = ok && err == nil
		return n
	}
	stat.PID = int(get(number))
	stat.Start = uint64(get(fields[fieldStart]))
	stat.RSSPages = uint64(get(fields[fieldRSS]))
	for _, field := range fields[fieldUTime : fieldCSTime+1] {
		stat.CPUTicks += uint64(get(field))
	}
	if state := string(fields[fieldState]); state == "Z" || state == "X" {
		stat.Zombie = true
		stat.ExitStatus = syscall.WaitStatus(get(fields[fieldExit]))
	}
	return stat, ok
}
