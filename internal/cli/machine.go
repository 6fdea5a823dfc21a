package cli

import (
	"context"
	"os/exec"
	"strings"
	"time"
)

// machineTimeout bounds the question to systemd below: an agent that is told to stop has more to do.
const machineTimeout = 2 * time.Second

// machineStops asks systemd whether the machine is being shut down or started anew: systemd says "stopping" before it stops any unit. Without
// systemd the answer is no.
func machineStops() bool {
	ctx, cancel := context.WithTimeout(context.Background(), machineTimeout)
	defer cancel()
	command := exec.CommandContext(ctx, "systemctl", "is-system-running")
	command.WaitDelay = machineTimeout
	state, _ := command.Output() // it ends with an error in every state but one
	return strings.TrimSpace(string(state)) == "stopping"
}
