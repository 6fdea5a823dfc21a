package dev

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/internal/runtime/process"
)

// Names of the roles of a stack.
const (
	WorkerName = "wo-dev"
	DroneName  = "dr-dev"
	ProxyName  = "px-dev"

	GatewayName = "gw-dev"
)

// Runtimes that the drone of a stack can have.
const (
	RuntimeProcess = "process"
	RuntimeDocker  = "docker"
	RuntimeFake    = "fake" // runs nothing: for measuring
)

// Config says where a stack keeps its data and where it listens.
type Config struct {
	// Data is the directory for all data; made if it is not there. Required.
	Data string
	// NATSHost and ProxyHost are addresses to listen on; 127.0.0.1.
	NATSHost, ProxyHost string
	// NATSPort and ProxyPort are ports; 0: any free one.
	NATSPort, ProxyPort int
	// GatewayPort is the gateway's, on the loopback; 0: any free one.
	GatewayPort int
	// Origins gives sessions hosts of their own, where a connect does not say; Embedded lets them stand in frames of
	// other sites' pages.
	Origins, Embedded bool
	// Runtime is RuntimeProcess, the default, RuntimeDocker or RuntimeFake.
	Runtime string
	// DockerHost is where the engine answers; DOCKER_HOST, or the usual socket.
	DockerHost string
	// ProcessRoot is the directory below which the process runtime finds its
	// executables; that of this program.
	ProcessRoot string
	// Grace is how long a backend that is asked to end may take; 3 s.
	Grace time.Duration
	// MetricsAddr is where the worker's metrics and health are served; "": nowhere.
	MetricsAddr string
	// OTLPEndpoint is where traces go; "": nowhere (see package tracing).
	OTLPEndpoint string
	// Retain is how long the worker keeps what has ended; its default.
	Retain time.Duration
	// Streams are how large the streams may become; bus.DefaultStreams.
	Streams bus.Streams
	// Terms are those of leases; lease.DefaultTerms.
	Terms lease.Terms
	// Version is what the roles say of themselves.
	Version string
	// Progress is told, in lines for people, what takes long.
	Progress func(line string)
	// Log takes what the parts log; slog.Default().
	Log *slog.Logger
}

func (c *Config) setDefaults() error {
	if c.Data == "" {
		return errors.New("--data: must name a directory")
	}
	data, err := filepath.Abs(c.Data)
	if err != nil {
		return fmt.Errorf("--data %s: %w", c.Data, err)
	}
	c.Data = data
	c.NATSHost = cmp.Or(c.NATSHost, "127.0.0.1")
	c.ProxyHost = cmp.Or(c.ProxyHost, "127.0.0.1")
	c.Runtime = cmp.Or(c.Runtime, RuntimeProcess)
	c.Grace = cmp.Or(c.Grace, 3*time.Second)
	c.Log = cmp.Or(c.Log, slog.Default())
	if c.Progress == nil {
		c.Progress = func(string) {}
	}
	if c.ProcessRoot == "" {
		self, err := os.Executable()
		if err != nil {
			return fmt.Errorf("find the directory of this program for --process-root: %w", err)
		}
		c.ProcessRoot = filepath.Dir(self)
	}
	return c.validate()
}

func (c *Config) validate() error {
	for flag, port := range map[string]int{"--nats-port": c.NATSPort, "--proxy-port": c.ProxyPort, "--gateway-port": c.GatewayPort} {
		if port < 0 || port > 65535 {
			return fmt.Errorf("%s: must be 0 (any free one) to 65535, not %d", flag, port)
		}
	}
	if c.Runtime != RuntimeProcess && c.Runtime != RuntimeDocker && c.Runtime != RuntimeFake {
		return fmt.Errorf("--runtime: must be %s, %s or %s, not %q", RuntimeProcess, RuntimeDocker, RuntimeFake, c.Runtime)
	}
	if c.Runtime == RuntimeProcess {
		// Here already: a database need not be made before that.
		if err := (process.Config{Root: c.ProcessRoot}).Validate(); err != nil {
			return fmt.Errorf("--process-root: %w", err)
		}
	}
	if c.Origins && net.ParseIP(clusterHost(c.ProxyHost)) != nil {
		return fmt.Errorf("--origin: needs a name below which sessions have theirs, and browsers reach --proxy-host %s by its address: leave --proxy-host out", c.ProxyHost)
	}
	if c.Grace < 0 {
		return fmt.Errorf("the grace %s is negative", c.Grace)
	}
	return nil
}

// PortError says that a port is taken, and by which flag to choose another.
type PortError struct {
	Flag string
	Port int
	Err  error
}

func (e *PortError) Error() string {
	return fmt.Sprintf("%s %d is taken: %v; choose another with %s, 0 for any free one", e.Flag, e.Port, e.Err, e.Flag)
}

func (e *PortError) Unwrap() error { return e.Err }

// listen opens the port of a flag.
func listen(flag, host string, port int) (net.Listener, error) {
	listener, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err == nil {
		return listener, nil
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, &PortError{Flag: flag, Port: port, Err: syscall.EADDRINUSE}
	}
	return nil, fmt.Errorf("%s-host %s, %s %d: %w", strings.TrimSuffix(flag, "-port"), host, flag, port, err)
}

// clusterHost is the host by which browsers on this machine reach the proxy.
func clusterHost(listenHost string) string {
	ip := net.ParseIP(listenHost)
	if ip == nil || ip.IsLoopback() || ip.IsUnspecified() {
		return "localhost"
	}
	return listenHost
}
