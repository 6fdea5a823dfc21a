package bench

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// postgresUsage gives the processor time that the server's processes for connections have used so
// far, as often as it is asked: what one used that has ended since it was asked last is not in
// it. Checkpoints and vacuums, which come when they come, are not either, but in all, which is what all
// its processes have used but own, that for conn. 0 where the processes are not on this machine, or it does not say.
func postgresUsage(ctx context.Context, conn *pgx.Conn) (connections, all, own func() time.Duration, err error) {
	var pid int
	var begin string
	if err := conn.QueryRow(ctx, "select pg_backend_pid(), format('postgres: %s %s ', current_user, current_database())").Scan(&pid, &begin); err != nil {
		return nil, nil, nil, fmt.Errorf("ask Postgres for its process: %w", err)
	}
	self := strconv.Itoa(pid)
	name, fields := procStat(self)
	if name != "postgres" || len(fields) < 2 {
		none := func() time.Duration { return 0 }
		return none, none, none, nil
	}
	server, seen := fields[1], make(map[string]time.Duration)
	connections = func() (sum time.Duration) {
		for _, child := range childrenOf(server) {
			if line, err := os.ReadFile("/proc/" + child + "/cmdline"); err == nil && child != self && strings.HasPrefix(string(line), begin) {
				seen[child] = processUsage(child)
			}
		}
		for _, used := range seen {
			sum += used
		}
		return sum
	}
	all = func() time.Duration {
		sum := processUsage(server)
		if _, fields := procStat(server); len(fields) > 14 {
			sum += ticks(fields[13]) + ticks(fields[14]) // of those that have ended
		}
		for _, child := range childrenOf(server) {
			if child != self {
				sum += processUsage(child)
			}
		}
		return sum
	}
	return connections, all, func() time.Duration { return processUsage(self) }, nil
}

func childrenOf(parent string) (pids []string) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		pid := filepath.Base(filepath.Dir(path))
		if _, fields := procStat(pid); len(fields) > 1 && fields[1] == parent {
			pids = append(pids, pid)
		}
	}
	return pids
}

// processUsage is the processor time of a process, summed over its threads in nanoseconds
// where the kernel counts them.
func processUsage(pid string) (used time.Duration) {
	threads, _ := filepath.Glob("/proc/" + pid + "/task/[0-9]*/schedstat")
	for _, path := range threads {
		text, _ := os.ReadFile(path)
		ns, _, _ := strings.Cut(string(text), " ")
		n, _ := strconv.ParseInt(ns, 10, 64)
		used += time.Duration(n)
	}
	if _, fields := procStat(pid); used == 0 && len(fields) > 12 {
		return ticks(fields[11]) + ticks(fields[12])
	}
	return used
}

// procStat gives a process' name, and what Linux says after it: state, parent, ….
func procStat(pid string) (name string, fields []string) {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	open, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	if err != nil || open < 0 || end < open {
		return "", nil
	}
	return string(stat[open+1 : end]), strings.Fields(string(stat[end+1:]))
}

// ticks are a hundred a second in what Linux tells programs, on every architecture of Go's.
func ticks(s string) time.Duration {
	n, _ := strconv.ParseInt(s, 10, 64)
	return time.Duration(n) * time.Second / 100
}
