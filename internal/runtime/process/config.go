package process

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/jetway-project/jetway/internal/runtime/output"
	"github.com/jetway-project/jetway/messages"
)

// Config is what the operator decides. Only Root has no default.
type Config struct {
	// Root is the directory below which executables are found; `--process-root`.
	Root string
	// Dir is the working directory, and HOME, of every process; by default Root.
	Dir string
	// TempDir is the TMPDIR of every process; by default that of the agent.
	TempDir string
	// Path is the PATH of every process; by default DefaultPath.
	Path string
	// Host is the address of this machine on which backends listen and are
	// reached; by default 127.0.0.1.
	Host string
	// StateDir, if set, makes the processes outlive the agent (Linux only): it is the
	// directory, in the drone's data directory, for what a later run of the agent needs
	// to take them over. Something else must then keep I1 while there is no agent.
	// Without it they end with the runtime, and with the agent.
	StateDir string
	// Drone is the name by which processes of this drone are known among others of the
	// machine, together with StateDir, with which it is needed.
	Drone string
	// PortRest is how long a port is not given out again after its instance has
	// ended; by default a minute.
	PortRest time.Duration
	// LogLines and LogBytes bound the output that one stream (stdout or stderr)
	// of one instance may pass on per second; by default 500 lines and 256 KiB.
	LogLines, LogBytes int
	// OutputGrace is how long, after the process has ended, output is awaited
	// from children that escaped its group; by default 500 ms.
	OutputGrace time.Duration
}

// DefaultPath is the PATH that processes get unless the operator names another.
const DefaultPath = "/usr/local/bin:/usr/bin:/bin"

// withDefaults returns c with what was left out filled in, and paths absolute.
func (c Config) withDefaults() (Config, error) {
	if c.Root == "" {
		return c, errors.New("process root: not set; name the directory that holds the executables")
	}
	orDefault(&c.Dir, c.Root)
	orDefault(&c.TempDir, os.TempDir())
	orDefault(&c.Path, DefaultPath)
	orDefault(&c.Host, "127.0.0.1")
	orDefault(&c.PortRest, time.Minute)
	orDefault(&c.LogLines, 500)
	orDefault(&c.LogBytes, 256<<10)
	orDefault(&c.OutputGrace, 500*time.Millisecond)
	var err error
	// With its own symlinks resolved, so that what lies below it can be told by
	// its path.
	if c.Root, err = filepath.Abs(c.Root); err == nil {
		c.Root, err = filepath.EvalSymlinks(c.Root)
	}
	if err != nil {
		return c, fmt.Errorf("process root: %w", err)
	}
	if c.Dir, err = filepath.Abs(c.Dir); err != nil {
		return c, fmt.Errorf("process working directory: %w", err)
	}
	if c.StateDir != "" {
		if c.StateDir, err = filepath.Abs(c.StateDir); err != nil {
			return c, fmt.Errorf("process state directory: %w", err)
		}
	}
	return c, nil
}

func orDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate says whether the directories exist, the host is an address of this
// machine and the limits are positive. New calls it.
func (c Config) Validate() error {
	c, err := c.withDefaults()
	if err != nil {
		return err
	}
	for name, dir := range map[string]string{"process root": c.Root, "process working directory": c.Dir} {
		info, err := os.Stat(dir)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if !info.IsDir() {
			return fmt.Errorf("%s: %s is not a directory", name, dir)
		}
	}
	if c.StateDir != "" {
		if err := messages.CheckDroneName(c.Drone); err != nil {
			return fmt.Errorf("drone of the processes: %w", err)
		}
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(c.Host, "0"))
	if err != nil {
		return fmt.Errorf("process host %q: cannot listen there: %w", c.Host, err)
	}
	if err := listener.Close(); err != nil {
		return fmt.Errorf("process host %q: %w", c.Host, err)
	}
	if c.LogLines < 0 || c.LogBytes < output.MaxLine || c.PortRest < 0 || c.OutputGrace < 0 {
		return fmt.Errorf("process limits: must not be negative, and log bytes at least %d", output.MaxLine)
	}
	return nil
}
