package cli

import (
	"context"
	"os/exec"
	"strings"
	"time"
)

// machineTimeout bounds the question whether the machine is being shut down: an agent that is told to stop has more
// to do.
const machineTimeout = 2 * time.Second

// machineStops says whether the machine is being shut down, or started anew: of systemd, which is "stopping" from when it
// was told to, before it stops any unit. Where there is no systemd it is not known, and so it is not.
func machineStops() bool {
	ctx, cancel := context.WithTimeout(context.Background(), machineTimeout)
	defer cancel()
	command := exec.CommandContext(ctx, "systemctl", "is-system-running")
	command.WaitDelay = machineTimeout
	state, _ := command.Output() // it ends with an error in every state but one
	return strings.TrimSpace(string(state)) == "stopping"
}
