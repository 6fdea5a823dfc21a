package testkit

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Build builds programs of this module as make does: they are what is shipped, and nothing
// that make has compiled is compiled again. output is a file, or a directory for several;
// args are packages, and before them further flags of go build. What it has linked is kept
// in bin/.test for all tests and runs, and linked again only after it has changed.
func Build(ctx context.Context, output string, args ...string) error {
	programs, err := built(ctx, args)
	if err != nil {
		return fmt.Errorf("build %s: %w", args[len(args)-1], err)
	}
	into, err := os.Stat(output)
	for _, program := range programs {
		to := output
		if err == nil && into.IsDir() {
			to = filepath.Join(output, filepath.Base(program))
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if err := give(program, to); err != nil {
			return err
		}
	}
	return nil
}

// built gives the programs, at the place where they are kept.
func built(ctx context.Context, args []string) (programs []string, err error) {
	here, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	root, _ := within(here)
	if root == "" {
		return nil, fmt.Errorf("%s is in no module", here)
	}
	// A relative package is another one elsewhere.
	dir := filepath.Join(root, "bin", ".test", fmt.Sprintf("%x", sha256.Sum256([]byte(here+"\n"+strings.Join(args, "\n"))))[:12])
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	lock, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil { // binaries of tests run at a time
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "go", append([]string{"build", "-trimpath", "-buildvcs=false", "-o", dir + "/"}, args...)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, said)
	}
	for _, arg := range args {
		if strings.Contains(arg, "/") && !strings.HasPrefix(arg, "-") {
			programs = append(programs, filepath.Join(dir, path.Base(arg)))
		}
	}
	return programs, nil
}

// give has a program at another place, by a link where that can be: what was just written might still be open in a process
// that is being started, and could not be executed.
func give(program, to string) error {
	_ = os.Remove(to)
	if os.Link(program, to) == nil {
		return nil
	}
	content, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	return os.WriteFile(to, content, 0o755) //nolint:gosec // a program
}
