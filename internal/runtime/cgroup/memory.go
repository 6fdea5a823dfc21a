package cgroup

import "github.com/jetway-project/jetway/internal/runtime"

// Memory is what a group uses of it, in Plane's fields. stat is the group's memory.stat: on v1
// the names with total_ count what is below the group, too.
func Memory(used uint64, stat map[string]uint64) runtime.Usage {
	prefix := ""
	if _, v1 := stat["total_inactive_file"]; v1 {
		prefix = "total_"
	}
	get := func(name string) uint64 { return stat[prefix+name] }
	return runtime.Usage{
		MemUsed:        used - min(get("inactive_file"), used),
		MemActive:      get("active_anon") + get("active_file"),
		MemInactive:    get("inactive_anon") + get("inactive_file"),
		MemUnevictable: get("unevictable"),
	}
}
