package docker

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/moby/moby/client"

	"github.com/jetway-project/jetway/internal/runtime/output"
)

// Config is what the operator decides. Only Drone has no default.
type Config struct {
	// Drone is the name of the drone: the label by which its containers are found.
	Drone string
	// Cluster is that of the drone: of another cluster, a container with the drone's name is another drone's. "": all are its own.
	Cluster string
	// Engine is where the engine answers, as a URL such as unix:///run/docker.sock;
	// by default DOCKER_HOST, or else the usual socket. For tcp:// the variables
	// DOCKER_CERT_PATH and DOCKER_TLS_VERIFY count.
	Engine string
	// Host is the address of the engine's machine on which backends are published;
	// by default 127.0.0.1.
	Host string
	// Runtime is the OCI runtime ("runsc"); by default the engine's.
	Runtime string
	// LogDriver and LogOptions are how the engine keeps output; by default json-file,
	// with at most two files of 10 MB for each container.
	LogDriver  string
	LogOptions map[string]string
	// MountBase is the directory below which backends may have folders; by default
	// none may.
	MountBase string
	// StateDir, made if need be, is where is noted how far output was read and which images were
	// pulled. By default nothing is: a later agent then passes on no output of the
	// time between, and prunes only images that it pulled itself.
	StateDir string
	// PruneImages is how long an image that this drone pulled may be unused before
	// it is removed; 0: images stay.
	PruneImages time.Duration
	// Labels are further labels of all containers.
	Labels map[string]string
	// LogLines and LogBytes bound the output that one stream (stdout or stderr) of
	// one container may pass on per second; by default 500 lines and 256 KiB.
	LogLines, LogBytes int
	// OutputGrace is how long, after a container has ended, the rest of its output
	// is awaited; by default 5 s.
	OutputGrace time.Duration
	// RemoveAfter is how long after its end a container is removed, which is how long
	// the agent has to put the end on record; by default 10 s.
	RemoveAfter time.Duration
	// Log is silent by default.
	Log *slog.Logger
}

func (c Config) withDefaults() Config {
	c.Engine = cmp.Or(c.Engine, os.Getenv(client.EnvOverrideHost), client.DefaultDockerHost)
	c.Host = cmp.Or(c.Host, "127.0.0.1")
	c.LogDriver = cmp.Or(c.LogDriver, "json-file")
	if len(c.LogOptions) == 0 && (c.LogDriver == "json-file" || c.LogDriver == "local") {
		c.LogOptions = map[string]string{"max-size": "10m", "max-file": "2"}
	}
	c.LogLines = cmp.Or(c.LogLines, output.LinesPerSecond)
	c.LogBytes = cmp.Or(c.LogBytes, output.BytesPerSecond)
	c.OutputGrace = cmp.Or(c.OutputGrace, 5*time.Second)
	c.RemoveAfter = cmp.Or(c.RemoveAfter, 10*time.Second)
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	return c
}

// Validate says whether the configuration makes sense and its addresses and the mount
// base can be used. New calls it.
func (c Config) Validate() error {
	c = c.withDefaults()
	if c.Drone == "" {
		return errors.New("drone: not named")
	}
	engine, err := client.ParseHostURL(c.Engine)
	if err != nil {
		return fmt.Errorf("docker host: %w; give a URL such as unix:///var/run/docker.sock", err)
	}
	if _, err := netip.ParseAddr(c.Host); err != nil {
		return fmt.Errorf("host %q: must be an IP address of the drone's machine", c.Host)
	}
	local := engine.Scheme == "unix"
	if local {
		listener, err := net.Listen("tcp", net.JoinHostPort(c.Host, "0"))
		if err != nil {
			return fmt.Errorf("host %q: cannot listen there: %w", c.Host, err)
		}
		_ = listener.Close()
	}
	for name := range c.Labels {
		if name == "" || strings.HasPrefix(name, labelPrefix) {
			return fmt.Errorf("docker label %q: must have a name that does not begin with %s", name, labelPrefix)
		}
	}
	if c.MountBase != "" {
		if !local {
			return fmt.Errorf("mount base: the engine at %s may be on another machine; mounts need one at a Unix socket", c.Engine)
		}
		if err := checkDir(c.MountBase); err != nil {
			return fmt.Errorf("mount base: %w", err)
		}
	}
	if c.StateDir != "" && !filepath.IsAbs(c.StateDir) {
		return fmt.Errorf("state directory: %s is not an absolute path", c.StateDir)
	}
	if c.PruneImages < 0 || c.LogLines < 0 || c.LogBytes < output.MaxLine || c.OutputGrace < 0 || c.RemoveAfter < 0 {
		return fmt.Errorf("docker limits: must not be negative, and log bytes at least %d", output.MaxLine)
	}
	return nil
}

func checkDir(dir string) error {
	if !filepath.IsAbs(dir) {
		return fmt.Errorf("%s is not an absolute path", dir)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a directory", dir)
	}
	return nil
}
