package drone_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/internal/drone"
	"github.com/jetway-project/jetway/internal/drone/guard"
	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/process"
)

// realAgent is what an agent in a process of its own is told.
type realAgent struct {
	URL, Name, Cluster, Pool string
	Dir, State, Root         string
	// Crash is where it kills itself: "prepare", "start" or "started"; or "claim", between taking a spare and the journal.
	Crash string
	// GCPercent is its GOGC; 0: the usual one.
	GCPercent int
}

// fullAt is the size at which files are full.
const fullAt = 64 << 10

// playGuard is what this binary does when an agent starts it as its guard.
func playGuard(args []string) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := guard.Run(ctx, guard.Config{Dir: args[0], Agent: os.Stdin, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// playAgent is what this binary does as an agent. SIGUSR1 makes its files full,
// SIGUSR2 ends that.
func playAgent(config string) {
	var c realAgent
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	fail := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, "the agent:", err)
			os.Exit(1)
		}
	}
	fail(json.Unmarshal([]byte(config), &c))
	if c.GCPercent > 0 {
		debug.SetGCPercent(c.GCPercent)
	}
	go limitFiles()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	rt, err := process.New(process.Config{Root: c.Root, StateDir: c.State, Drone: c.Name})
	fail(err)
	nc, err := bus.Connect(ctx, bus.Config{URL: c.URL, Name: c.Name, Log: log})
	fail(err)
	self, err := os.Executable()
	fail(err)
	fail(drone.Run(ctx, drone.Config{
		Name: c.Name, Cluster: c.Cluster, Pool: c.Pool, DataDir: c.Dir, Guard: []string{self, "guard", c.Dir},
		Grace: grace, StatsEvery: time.Second, Log: log, OnReady: func() { fmt.Println("ready") },
	}, nc, &crashing{lasting: rt.(lasting), at: c.Crash}))
	nc.Close()
	fail(rt.Close())
	os.Exit(0)
}

func limitFiles() {
	var before unix.Rlimit
	_ = unix.Getrlimit(unix.RLIMIT_FSIZE, &before)
	signal.Ignore(unix.SIGXFSZ)
	told := make(chan os.Signal, 2)
	signal.Notify(told, syscall.SIGUSR1, syscall.SIGUSR2)
	for s := range told {
		limit := before
		if s == syscall.SIGUSR1 {
			limit.Cur = fullAt
		}
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
			fmt.Fprintln(os.Stderr, "limit files:", err)
		}
		fmt.Println("limited")
	}
}

// crashing is a runtime under which the agent dies.
type crashing struct {
	lasting
	at string
	// asked are the spares whose group was asked for: to watch them start, and then to claim them.
	asked sync.Map
}

// lasting is what the process runtime is.
type lasting interface {
	runtime.Adopter
	runtime.Grouped
}

func (r *crashing) dieAt(at string) {
	if r.at == at {
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
		select {}
	}
}

func (r *crashing) Prepare(ctx context.Context, spec runtime.Spec) error {
	if !isSpare(spec.BackendID) {
		r.dieAt("prepare")
	}
	return r.lasting.Prepare(ctx, spec)
}

func (r *crashing) Start(ctx context.Context, spec runtime.Spec) (runtime.Instance, error) {
	if isSpare(spec.BackendID) {
		return r.lasting.Start(ctx, spec)
	}
	r.dieAt("start")
	instance, err := r.lasting.Start(ctx, spec)
	r.dieAt("started")
	return instance, err
}

func (r *crashing) Group(id string) string {
	if _, again := r.asked.LoadOrStore(id, true); again && isSpare(id) {
		r.dieAt("claim")
	}
	return r.lasting.Group(id)
}

func isSpare(id string) bool { return strings.HasPrefix(id, "spare-") }
