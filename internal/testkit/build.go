package testkit

import (
	"context"
	"fmt"
	"os"
	"os/exec"
)

// Build builds programs of this module as make does: they are what is shipped, and nothing
// that make has compiled is compiled again. output is a file, or a directory for several;
// args are packages, and before them further flags of go build.
func Build(ctx context.Context, output string, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", append([]string{"build", "-trimpath", "-buildvcs=false", "-o", output}, args...)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", args[len(args)-1], err, said)
	}
	return nil
}
