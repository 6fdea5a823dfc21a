package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// agentGroup is the group below a unit's own that its agent is in (DelegateSubgroup=agent):
// so none is in the unit's own, where the kernel then lets controllers be enabled.
const agentGroup = "agent"

// The controllers that Limits need.
const (
	memory = "memory"
	cpu    = "cpu"
	pids   = "pids"
)

// Base is where the groups of one drone's backends are made.
type Base struct {
	// dir is in the unified hierarchy.
	dir string
	// v1 has the directories of the same meaning of controllers that are there, and home
	// the groups there that the agent itself is in.
	v1, home map[string]string
	// lacks says of a controller why it cannot be used.
	lacks map[string]string
}

// hierarchies are where control groups are mounted: the unified one, those of v1 by
// their controllers, and what group of each a process is in.
type hierarchies struct {
	unified string
	v1, own map[string]string
}

// Open makes ready a directory of that name for the groups of a drone: below the parent,
// or where it is "", where groups can be made. An error says why they cannot.
func Open(parent, name string) (*Base, error) {
	h, err := find("self")
	if err != nil {
		return nil, err
	}
	if parent == "" {
		parent = h.parent()
	} else if !exists(filepath.Join(parent, "cgroup.procs")) {
		return nil, fmt.Errorf("%s is no control group of the unified hierarchy, which is at %s: make one there, or name another", parent, h.unified)
	}
	b := &Base{dir: filepath.Join(parent, name), v1: map[string]string{}, home: map[string]string{}, lacks: map[string]string{}}
	below, err := filepath.Rel(h.unified, b.dir)
	if err != nil || !filepath.IsLocal(below) {
		return nil, fmt.Errorf("%s is not below %s, the unified hierarchy of control groups", b.dir, h.unified)
	}
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		return nil, fmt.Errorf("make a control group (in a systemd unit, Delegate=yes lets it): %w", err)
	}
	if err := unix.Access(filepath.Join(b.dir, "cgroup.kill"), unix.W_OK); err != nil {
		return nil, fmt.Errorf("the control group %s has no cgroup.kill to write to, which takes Linux 5.14 or later: %w", b.dir, err)
	}
	for _, controller := range []string{memory, cpu, pids} {
		if mount := h.v1[controller]; mount != "" {
			err = b.useV1(controller, filepath.Join(mount, below), h.own[controller])
		} else {
			err = b.enable(h.unified, parent, controller)
		}
		if err != nil {
			b.lacks[controller] = err.Error()
		}
	}
	return b, nil
}

// useV1 makes the directory of a controller on a hierarchy of its own.
func (b *Base) useV1(controller, dir, own string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := unix.Access(filepath.Join(own, "tasks"), unix.W_OK); err != nil {
		return fmt.Errorf("%s: %w", own, err)
	}
	b.v1[controller], b.home[controller] = dir, own
	return nil
}

// enable makes a controller of the unified hierarchy one of the groups below the base. What is made
// at the top of the hierarchy has none but those that systemd, or whoever else, enabled there.
func (b *Base) enable(top, parent, controller string) error {
	dirs := []string{parent, b.dir}
	if filepath.Dir(parent) == top {
		dirs = []string{top, parent, b.dir}
	}
	if !has(dirs[0], "cgroup.controllers", controller) {
		return fmt.Errorf("%s has no such controller", dirs[0])
	}
	for _, dir := range dirs {
		if has(dir, "cgroup.subtree_control", controller) {
			continue
		}
		err := write(dir, "cgroup.subtree_control", "+"+controller)
		if errors.Is(err, unix.EBUSY) {
			err = fmt.Errorf("there are processes in %s itself; in a systemd unit set DelegateSubgroup=%s, which systemd 254 and later know", dir, agentGroup)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Lacks says why a controller cannot be used, by its name; nothing of those that can.
func (b *Base) Lacks() map[string]string { return b.lacks }

// Close removes the directory if there are no groups in it.
func (b *Base) Close() {
	for _, dir := range b.v1 {
		_ = unix.Rmdir(dir)
	}
	_ = unix.Rmdir(b.dir)
}

// Dir is where the groups are, in the unified hierarchy.
func (b *Base) Dir() string { return b.dir }

// find reads where control groups are, for a process by its number, or "self".
func find(process string) (h hierarchies, err error) {
	h.v1, h.own = map[string]string{}, map[string]string{}
	groups, err := os.ReadFile("/proc/" + process + "/cgroup")
	if err != nil {
		return h, fmt.Errorf("control groups: %w", err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return h, fmt.Errorf("control groups: %w", err)
	}
	in := map[string]string{} // "" is the unified hierarchy
	for line := range strings.Lines(string(groups)) {
		_, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		names, group, _ := strings.Cut(rest, ":")
		for controller := range strings.SplitSeq(names, ",") {
			in[controller] = group
		}
	}
	for line := range strings.Lines(string(mounts)) {
		mount, filesystem, _ := strings.Cut(line, " - ")
		left, right := strings.Fields(mount), strings.Fields(filesystem)
		if len(left) < 5 || len(right) < 3 {
			continue
		}
		root, point := left[3], left[4]
		own := func(controller string) string {
			return filepath.Join(point, strings.TrimPrefix(in[controller], strings.TrimSuffix(root, "/")))
		}
		switch options := strings.Split(right[2], ","); {
		case right[0] == "cgroup2" && h.unified == "":
			h.unified, h.own[""] = point, own("")
		case right[0] == "cgroup":
			for _, controller := range []string{memory, cpu, pids, freezer} {
				if slices.Contains(options, controller) && h.v1[controller] == "" {
					h.v1[controller], h.own[controller] = point, own(controller)
				}
			}
		}
	}
	if h.unified == "" {
		return h, errors.New("control groups: the unified hierarchy (cgroup2) is not mounted")
	}
	return h, nil
}

// parent is where this process can make groups.
func (h hierarchies) parent() string {
	own := h.own[""]
	if filepath.Base(own) == agentGroup {
		return filepath.Dir(own)
	}
	if os.Geteuid() != 0 {
		return own
	}
	if own == h.unified && !has(own, "cgroup.type", "") {
		return filepath.Join(own, "jetway") // the machine's root, where processes may be
	}
	if own == h.unified { // a container's: nobody starts another process here
		_ = os.Mkdir(filepath.Join(own, agentGroup), 0o755)
		_ = write(filepath.Join(own, agentGroup), "cgroup.procs", "0")
		return own
	}
	return filepath.Join(h.unified, "jetway")
}

// has says whether a file of a group has the word; "" asks for the file.
func has(dir, file, word string) bool {
	raw, err := os.ReadFile(filepath.Join(dir, file))
	return err == nil && (word == "" || slices.Contains(strings.Fields(string(raw)), word))
}

// write writes one of a group's files, in one call as the kernel wants it.
func write(dir, file, text string) error {
	fd, err := unix.Open(filepath.Join(dir, file), unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		defer unix.Close(fd)
		_, err = unix.Write(fd, []byte(text))
	}
	if err != nil {
		return &fs.PathError{Op: "write", Path: filepath.Join(dir, file), Err: err}
	}
	return nil
}
