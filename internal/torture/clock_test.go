//go:build linux

package torture_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// clockEnv is by how many hours a process's wall clock jumps; see overlay.
const clockEnv = "JETWAY_TORTURE_CLOCK"

// overlay makes a build in which the wall clock is what clockEnv says, and jumps. Go does
// not read time through libc, so nothing from outside can do that; and nothing of the
// product knows of it.
func overlay(dir string) (path string, err error) {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", err
	}
	source := filepath.Join(strings.TrimSpace(string(out)), "src", "time", "time.go")
	text, err := os.ReadFile(source)
	if err != nil {
		return "", err
	}
	const before = "\tsec, nsec, mono := runtimeNow()\n"
	if !bytes.Contains(text, []byte(before)) {
		return "", fmt.Errorf("time.Now in %s does not begin as expected", source)
	}
	text = bytes.Replace(text, []byte(before), []byte(before+"\tsec += tortureShift(mono)\n"), 1)
	text = append(text, []byte(`
var tortureHours = func() (n int64) {
	s, _ := syscall.Getenv("JETWAY_TORTURE_CLOCK")
	for _, c := range []byte(s) {
		n = n*10 + int64(c-'0')
	}
	return n
}()

// tortureShift is how many seconds the wall clock is off: it jumps every 20 s, forth
// and back, each process's at times of its own.
func tortureShift(mono int64) int64 {
	return tortureHours * 3600 * ((mono/1e9+7*tortureHours)/20%3 - 1)
}
`)...)
	text = bytes.Replace(text, []byte("import (\n"), []byte("import (\n\t\"syscall\"\n"), 1)
	patched := filepath.Join(dir, "time.go")
	if err := os.WriteFile(patched, text, 0o600); err != nil {
		return "", err
	}
	path = filepath.Join(dir, "overlay.json")
	return path, os.WriteFile(path, fmt.Appendf(nil, `{"Replace": {%q: %q}}`, source, patched), 0o600)
}
