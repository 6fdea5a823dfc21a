package process

import (
	"cmp"
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
	// Dir is the directory below which every backend has one of its own, its working
	// directory, HOME and TMPDIR, which is removed at its end; by default StateDir, or without
	// it, a temporary one.
	Dir string
	// User is whom the processes run as, where that is not who the agent is, which takes
	// root: a user, or a range of numbers for one each; `--process-user`.
	User string
	// Cgroup is the control group below which every backend has its own; "" finds a place,
	// NoCgroup does without; `--cgroup`. Linux, with StateDir.
	Cgroup string
	// Landlock has backends read the root and the system alone, and write to their own directories
	// alone, where the kernel can do that; `--landlock`. Linux, with StateDir.
	Landlock bool
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

// NoCgroup as Config.Cgroup has processes found by their labels alone.
const NoCgroup = "none"

// DefaultPath is the PATH that processes get unless the operator names another.
const DefaultPath = "/usr/local/bin:/usr/bin:/bin"

// withDefaults returns c with what was left out filled in, and paths absolute.
func (c Config) withDefaults() (Config, error) {
	if c.Root == "" {
		return c, errors.New("process root: not set; name the directory that holds the executables")
	}
	c.Dir = cmp.Or(c.Dir, c.StateDir)
	c.Path = cmp.Or(c.Path, DefaultPath)
	c.Host = cmp.Or(c.Host, "127.0.0.1")
	c.PortRest = cmp.Or(c.PortRest, time.Minute)
	c.LogLines = cmp.Or(c.LogLines, output.LinesPerSecond)
	c.LogBytes = cmp.Or(c.LogBytes, output.BytesPerSecond)
	c.OutputGrace = cmp.Or(c.OutputGrace, 500*time.Millisecond)
	var err error
	// With its own symlinks resolved, so that what lies below it can be told by
	// its path.
	if c.Root, err = filepath.Abs(c.Root); err == nil {
		c.Root, err = filepath.EvalSymlinks(c.Root)
	}
	if err != nil {
		return c, fmt.Errorf("process root: %w", err)
	}
	for _, dir := range []*string{&c.Dir, &c.StateDir} {
		if *dir == "" {
			continue
		}
		if *dir, err = filepath.Abs(*dir); err != nil {
			return c, fmt.Errorf("directory of the backends: %w", err)
		}
	}
	return c, nil
}

// Validate says whether the directories exist, the host is an address of this
// machine and the limits are positive. New calls it.
func (c Config) Validate() error {
	c, err := c.withDefaults()
	if err != nil {
		return err
	}
	if info, err := os.Stat(c.Root); err != nil {
		return fmt.Errorf("process root: %w", err)
	} else if !info.IsDir() {
		return fmt.Errorf("process root: %s is not a directory", c.Root)
	}
	if c.StateDir != "" {
		if err := messages.CheckDroneName(c.Drone); err != nil {
			return fmt.Errorf("drone of the processes: %w", err)
		}
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(c.Host, "0"))
	if err != nil {
		return fmt.Errorf("%w %q: cannot listen there: %w", ErrHost, c.Host, err)
	}
	if err := listener.Close(); err != nil {
		return fmt.Errorf("%w %q: %w", ErrHost, c.Host, err)
	}
	if c.LogLines < 0 || c.LogBytes < output.MaxLine || c.PortRest < 0 || c.OutputGrace < 0 {
		return fmt.Errorf("process limits: must not be negative, and log bytes at least %d", output.MaxLine)
	}
	return nil
}
