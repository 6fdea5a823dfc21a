package cgroup

import (
	"path/filepath"
	"strconv"
	"strings"
)

// Of is the group of a process that somebody else made, with name in its own name; nil where it
// is in none.
func Of(pid int, name string) *Group {
	h, err := find(strconv.Itoa(pid))
	dir := upTo(h.own[""], name)
	if err != nil || dir == "" {
		return nil
	}
	b := &Base{v1: map[string]string{}}
	for controller, own := range h.own {
		if own = upTo(own, name); controller != "" && own != "" {
			b.v1[controller] = filepath.Dir(own)
		}
	}
	return &Group{base: b, dir: dir}
}

// upTo cuts a path after the element that contains the name; "" where none does.
func upTo(path, name string) string {
	at := strings.LastIndex(path, name)
	if at < 0 {
		return ""
	}
	end := at + len(name)
	rest, _, _ := strings.Cut(path[end:], "/")
	return path[:end] + rest
}
