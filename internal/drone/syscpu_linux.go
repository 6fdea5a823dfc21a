package drone

import (
	"bytes"
	"os"
	"strconv"
	"time"

	"github.com/jetway-project/jetway/internal/procs"
)

// systemCPU is the processor time of the machine since it started, busy or not, as
// Docker counts it: user, nice, system, idle, iowait, irq and softirq (proc_stat(5)), of
// all processors. 0 if it cannot be told.
func systemCPU() time.Duration {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := bytes.Cut(text, []byte("\n"))
	var total time.Duration
	for i, field := range bytes.Fields(line) {
		switch i {
		case 1, 2, 3, 4, 5, 6, 7: // guests, further on, are in user and nice
			ticks, err := strconv.ParseInt(string(field), 10, 64)
			if err != nil {
				return 0
			}
			total += time.Duration(ticks) * procs.Tick
		}
	}
	return total
}
