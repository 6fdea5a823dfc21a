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

// postgresUsage gives the processor time of a server's processes so far: 0 where they are not
// on this machine, or it does not say.
func postgresUsage(ctx context.Context, conn *pgx.Conn) (func() time.Duration, error) {
	var pid int
	if err := conn.QueryRow(ctx, "select pg_backend_pid()").Scan(&pid); err != nil {
		return nil, fmt.Errorf("ask Postgres for its process: %w", err)
	}
	name, fields := procStat(strconv.Itoa(pid))
	if name != "postgres" || len(fields) < 2 {
		return func() time.Duration { return 0 }, nil
	}
	return func() time.Duration { return treeUsage(fields[1]) }, nil
}

// treeUsage is the processor time of a process and its children, also of those that have ended.
func treeUsage(parent string) (used time.Duration) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		pid := filepath.Base(filepath.Dir(path))
		_, fields := procStat(pid)
		if len(fields) < 15 || pid != parent && fields[1] != parent {
			continue
		}
		if pid == parent {
			used += ticks(fields[13]) + ticks(fields[14]) // of children that have ended
		}
		// In nanoseconds where the kernel counts them.
		text, err := os.ReadFile("/proc/" + pid + "/schedstat")
		ns, _, _ := strings.Cut(string(text), " ")
		if n, bad := strconv.ParseInt(ns, 10, 64); err == nil && bad == nil && n > 0 {
			used += time.Duration(n)
		} else {
			used += ticks(fields[11]) + ticks(fields[12])
		}
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
