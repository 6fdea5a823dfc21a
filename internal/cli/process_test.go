package cli

import (
	"strings"
	"testing"
)

// What a drone cannot hold processes to is refused at its start, and so is what cannot be used as
// things are: before it connects to anything.
func TestProcessFlagsAreChecked(t *testing.T) {
	t.Parallel()
	for flags, want := range map[string]string{
		"--cgroup none --max-memory 1GiB":      "--max-memory: no backend could promise itself a part of it",
		"--cgroup none --max-cpus 2":           "--max-cpus: no backend could promise itself a part of it",
		"--cgroup /nonsense":                   "--cgroup: ",
		"--landlock --cgroup /nonsense":        "--cgroup: ",
		"--process-user no-such-user":          "--process-user: ",
		"--process-root /no/such/directory":    "--process-root: ",
		"--process-user 9-7 --cgroup nonsense": "--process-user: ",
	} {
		args := append([]string{"drone", "--name", "dr-checked", "--cluster", "c.test", "--nats", "nats://127.0.0.1:1", "--process-root", t.TempDir(), "--data-dir", t.TempDir()}, strings.Fields(flags)...)
		_, stderr, code := jetway(t, args...)
		if code != 2 || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit code %d, want 2 and %q:\n%s", flags, code, want, stderr)
		}
	}
}
