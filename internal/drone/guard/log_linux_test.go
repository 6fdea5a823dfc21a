package guard

import (
	"os"
	"strings"
	"testing"
)

// I8: the log of guards, also of those that never stand, is bounded.
func TestI8LogIsBounded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	total := 0
	for total < 4*maxLog {
		log, err := openLog(dir)
		if err != nil {
			t.Fatal(err)
		}
		n, err := log.WriteString(strings.Repeat("panic: x\n", 2000))
		if err != nil {
			t.Fatal(err)
		}
		log.Close()
		total += n
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Fatalf("%v, %v", entries, err)
	}
	for _, entry := range entries {
		if info, err := entry.Info(); err != nil || info.Size() > maxLog+20_000 || info.Size() == 0 {
			t.Errorf("%s: %d bytes, %v", entry.Name(), info.Size(), err)
		}
	}
}
