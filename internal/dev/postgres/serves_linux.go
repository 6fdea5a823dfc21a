package postgres

import (
	"context"
	"os"
	"strconv"
	"strings"
)

// serves says whether the process is a Postgres server of this data directory.
func serves(_ context.Context, pid int, dir string) bool {
	line, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	return err == nil && strings.Contains(string(line), "postgres\x00-D\x00"+dir+"\x00")
}
