package cli

import (
	"os"
	"path/filepath"
	"testing"
)

// The demand: an agent sees that the machine is being shut down, and takes nothing else for that.
func TestMachineStopsWhenSystemdSaysSo(t *testing.T) {
	for state, want := range map[string]bool{"stopping": true, "running": false, "degraded": false, "offline": false, "": false} {
		bin := t.TempDir()
		t.Setenv("PATH", bin)
		if state != "" { // else there is no systemd
			script := "#!/bin/sh\n[ \"$*\" = is-system-running ] && echo " + state + "\n[ " + state + " = running ]\n"
			if err := os.WriteFile(filepath.Join(bin, "systemctl"), []byte(script), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if got := machineStops(); got != want {
			t.Errorf("systemd says %q: %v, want %v", state, got, want)
		}
	}
}
