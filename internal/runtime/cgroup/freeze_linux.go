package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// freezer is the controller of v1 that engines freeze containers by where they are on v1. On the unified
// hierarchy each group can be frozen without a controller.
const freezer = "freezer"

// Freeze freezes all that runs in the group, and whatever comes into it, until Thaw. It does not wait for
// what is inside the kernel. Frozen processes still end by SIGKILL and by [Kill], at once.
func (g *Group) Freeze() error { return g.freeze("1") }

// Thaw has all that runs in the group go on.
func (g *Group) Thaw() error { return g.freeze("0") }

func (g *Group) freeze(state string) error {
	err := write(g.dir, "cgroup.freeze", state)
	if err != nil && !gone(err) {
		return fmt.Errorf("freeze or thaw a control group: %w", err)
	}
	return nil
}

// Frozen says whether the group is told to be frozen.
func (g *Group) Frozen() bool { return has(g.dir, "cgroup.freeze", "1") }

// Events opens the file that poll calls changed when the group has been frozen or thawed, or is empty.
func (g *Group) Events() (*os.File, error) {
	file, err := os.Open(filepath.Join(g.dir, "cgroup.events"))
	if err != nil {
		return nil, fmt.Errorf("watch a control group: %w", err)
	}
	return file, nil
}

// ThawV1 thaws the group of v1 that a process is in, where there is one that is frozen. What was killed in
// there ends only then (I1): an engine on v1 freezes containers so. On the unified hierarchy it ends anyway.
func ThawV1(pid int) error {
	h, _ := find(strconv.Itoa(pid)) // what is not found is gone, or nobody can freeze it
	own, mount := h.own[freezer], h.v1[freezer]
	if own == "" || own == mount {
		return nil
	}
	if raw, readErr := os.ReadFile(filepath.Join(own, "freezer.state")); readErr != nil || strings.TrimSpace(string(raw)) == "THAWED" {
		return nil //nolint:nilerr // the group is gone, or not to be seen from here
	}
	if err := write(own, "freezer.state", "THAWED"); err != nil && !gone(err) {
		return fmt.Errorf("thaw what was killed: %w", err)
	}
	return nil
}

// Reclaim has the kernel hand back up to so many bytes of the group's memory, which it swaps out or drops. It says how many
// it got, and whether there may be more. A limit of memory leaves a group no swap while it runs; what is swapped out counts no more than it did.
func (g *Group) Reclaim(bytes uint64) (got uint64, more bool, err error) {
	before, ok := number(g.dir, "memory.current")
	if !ok || !CanReclaim() {
		return 0, false, nil
	}
	if swap, limited := number(g.dir, "memory.swap.max"); limited && swap == 0 && write(g.dir, "memory.swap.max", "max") == nil {
		defer func() { err = errors.Join(err, write(g.dir, "memory.swap.max", "0")) }()
	}
	err = write(g.dir, "memory.reclaim", strconv.FormatUint(min(bytes, before), 10))
	more = err == nil && bytes < before
	if errors.Is(err, unix.EAGAIN) || gone(err) { // that was all, swap is full, or Linux is older than 5.19
		err = nil
	}
	if after, ok := number(g.dir, "memory.current"); ok && after < before {
		got = before - after
	}
	return got, more, err
}

// CanReclaim says whether this machine has free swap, without which nothing of worth can be handed back.
func CanReclaim() bool {
	raw, err := os.ReadFile("/proc/meminfo")
	_, rest, ok := strings.Cut(string(raw), "\nSwapFree:")
	free := strings.Fields(rest)
	return err == nil && ok && len(free) > 0 && free[0] != "0"
}
