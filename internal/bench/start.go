package bench

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/messages"
	jetwayclient "github.com/jetway-project/jetway/messages/client"
)

// What is started, and by whom.
const (
	StartProcess   = "process"
	StartContainer = "container"

	ByExec      = "exec"       // the floor of a process: nothing but the program
	ByDockerRun = "docker run" // the floor of a container
	ByJetway    = "jetway"
)

// StartConfig says what to measure. Dial, DroneCommand and Root are required.
type StartConfig struct {
	// Dial makes a connection to the stack's NATS.
	Dial func(name string) (*nats.Conn, error)
	// DroneCommand gives a command that runs a drone until its standard input ends.
	DroneCommand func(StartDrone) []string
	// Env is added to the environment of the drones.
	Env []string
	// Root is the directory of `room`, which is what is started.
	Root string
	// Starts is how often each is started. Default 25.
	Starts int
	// AtOnce is how many spares are claimed at once in the end. Default 50.
	AtOnce int
	// Progress is told what is being measured.
	Progress func(what string)
}

// StartDrone is a drone of the bench.
type StartDrone struct {
	Name, Cluster, Runtime, DataDir string
	// DockerHost is where the engine of the docker runtime answers.
	DockerHost string
}

// Validate fills in defaults and refuses what cannot be measured.
func (c *StartConfig) Validate() error {
	c.Starts, c.AtOnce = cmp.Or(c.Starts, 25), cmp.Or(c.AtOnce, 50)
	if c.Progress == nil {
		c.Progress = func(string) {}
	}
	if c.Starts < 1 || c.Starts > 1000 {
		return errors.New("starts must be 1 to 1000")
	}
	if c.AtOnce < 1 || c.AtOnce > messages.MaxSpares {
		return fmt.Errorf("starts at once must be 1 to %d", messages.MaxSpares)
	}
	if _, err := os.Stat(c.room()); err != nil {
		return fmt.Errorf("what is started is room, of --process-root: %w; make build puts it beside jetway", err)
	}
	return nil
}

func (c *StartConfig) room() string { return filepath.Join(c.Root, "room") }

// StartFigures are how long starts took, from the beginning to the first answer over
// HTTP, which is what makes a backend `ready`.
type StartFigures struct {
	What  string `json:"what"`
	By    string `json:"by"`
	Count int    `json:"count"`
	// In milliseconds.
	P50 float64 `json:"p50_ms"`
	P99 float64 `json:"p99_ms"`
	// Ratios to the floor of the same run; 0 for a floor.
	OfFloorP50 float64 `json:"of_floor_p50,omitempty"`
	OfFloorP99 float64 `json:"of_floor_p99,omitempty"`
	// Steps are after how many milliseconds Jetway had come how far, p50 each.
	Steps []StartStep `json:"steps,omitempty"`
}

// StartStep is one step: the reply to the request, or a state, when its event arrived.
type StartStep struct {
	Name string  `json:"name"`
	P50  float64 `json:"p50_ms"`
}

// stepReply is the step that is no state.
const stepReply = "reply"

// StartResult is what was measured.
type StartResult struct {
	Starts []StartFigures `json:"starts"`
	// Without says why there are no containers in it; "" when there are.
	Without string `json:"without,omitempty"`
}

// Start measures how long starts take on a running stack, with drones of its own.
func Start(ctx context.Context, cfg StartConfig) (r *StartResult, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "jetway-bench-start-")
	if err != nil {
		return nil, fmt.Errorf("make a directory for the drones: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	nc, err := cfg.Dial("jetway-bench")
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	run := strconv.FormatInt(time.Now().UnixNano(), 36)
	s := &starter{cfg: &cfg, nc: nc, run: run}
	defer func() { err = errors.Join(err, s.forget(ctx, s.templates...), s.end()) }()

	r = new(StartResult)
	kinds := []*startKind{{what: StartProcess, by: ByExec, start: func(ctx context.Context) (startTimes, error) { return s.exec(ctx) }}}
	quick, slow := map[string]any{"command": []string{"room"}}, map[string]any{"command": []string{"room", "--load-for=" + loadFor}}
	if kinds, err = s.jetway(kinds, StartDrone{Runtime: "process", DataDir: filepath.Join(dir, "process")}, quick); err != nil {
		return nil, err
	}
	if kinds, err = s.spares(kinds, StartProcess, "process", quick); err != nil {
		return nil, err
	}
	kinds = append(kinds, &startKind{what: StartSlow, by: ByExec, start: func(ctx context.Context) (startTimes, error) { return s.exec(ctx, "--load-for="+loadFor) }})
	if kinds, err = s.spares(kinds, StartSlow, "process", slow); err != nil {
		return nil, err
	}
	s.engine, err = openEngine(ctx, cfg.room(), run)
	switch {
	case err == nil:
		kinds = append(kinds, &startKind{what: StartContainer, by: ByDockerRun, start: s.engine.run})
		kinds, err = s.jetway(kinds, StartDrone{Runtime: "docker", DataDir: filepath.Join(dir, "docker"), DockerHost: s.engine.host},
			map[string]any{"image": s.engine.image, "pull_policy": "Never"})
		if err == nil {
			kinds, err = s.spares(kinds, StartContainer, "docker", map[string]any{"image": s.engine.image, "pull_policy": "Never"})
		}
		if err != nil {
			return nil, err
		}
	case errors.Is(err, ErrNoEngine):
		r.Without = err.Error()
	default:
		return nil, err
	}
	cfg.Progress(fmt.Sprintf("%d starts of each, in turns", cfg.Starts))
	// The first of each is not counted: caches are cold, and drones not yet ready.
	for n := -1; n < cfg.Starts; n++ {
		for _, kind := range kinds {
			took, err := kind.start(ctx)
			if err != nil {
				return nil, fmt.Errorf("start a %s by %s: %w", kind.what, kind.by, err)
			}
			if n >= 0 {
				kind.took = append(kind.took, took)
			}
		}
	}
	for _, kind := range kinds {
		r.Starts = append(r.Starts, kind.figures(r.Starts))
	}
	cfg.Progress(fmt.Sprintf("%d at once, each from a spare", cfg.AtOnce))
	if err := s.forget(ctx, s.templates...); err != nil {
		return nil, err
	}
	at, err := s.atOnce(ctx, StartProcess, "process", quick)
	if err != nil {
		return nil, fmt.Errorf("start %d processes at once: %w", cfg.AtOnce, err)
	}
	r.Starts = append(r.Starts, at)
	return r, nil
}

// startKind is one way to start one kind of thing.
type startKind struct {
	what, by string
	// start starts one, waits for its first answer and ends it again.
	start func(ctx context.Context) (startTimes, error)
	took  []startTimes
}

// startTimes are how long one start took, and its steps.
type startTimes struct {
	all   time.Duration
	steps map[string]time.Duration
}

// steps are in their order.
var steps = []string{stepReply, "loading", "starting", "waiting"}

// figures sums up; those of the floor come before.
func (k *startKind) figures(before []StartFigures) StartFigures {
	of := func(pick func(startTimes) (time.Duration, bool)) (sorted []time.Duration) {
		for _, took := range k.took {
			if d, ok := pick(took); ok {
				sorted = append(sorted, d)
			}
		}
		slices.Sort(sorted)
		return sorted
	}
	all := of(func(t startTimes) (time.Duration, bool) { return t.all, true })
	f := StartFigures{What: k.what, By: k.by, Count: len(all), P50: percentile(all, 50), P99: percentile(all, 99)}
	for _, name := range steps {
		if reached := of(func(t startTimes) (time.Duration, bool) { d, ok := t.steps[name]; return d, ok }); len(reached) > 0 {
			f.Steps = append(f.Steps, StartStep{Name: name, P50: percentile(reached, 50)})
		}
	}
	if at := slices.IndexFunc(before, func(f StartFigures) bool { return f.What == k.what }); at >= 0 {
		floor := before[at]
		f.OfFloorP50, f.OfFloorP99 = f.P50/floor.P50, f.P99/floor.P99
	}
	return f
}

// starter starts processes, by itself and by Jetway.
type starter struct {
	cfg    *StartConfig
	nc     *nats.Conn
	run    string
	count  atomic.Int64 // of backends
	drones []*process
	engine *engine // nil without one
	// templates are those that were put.
	templates []string
}

// end ends the drones, and then removes what they leave on the engine.
func (s *starter) end() error {
	for _, drone := range s.drones {
		drone.stop()
	}
	if s.engine == nil {
		return nil
	}
	return s.engine.close("label=io.jetway.drone=" + s.droneName("docker"))
}

func (s *starter) droneName(runtime string) string { return "dr-bench-" + runtime + "-" + s.run }

// exec starts the program.
func (s *starter) exec(ctx context.Context, args ...string) (took startTimes, err error) {
	address, err := freeAddress()
	if err != nil {
		return took, err
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return took, err
	}
	began := time.Now()
	p, err := start("room", append([]string{s.cfg.room()}, args...), []string{"PORT=" + port}, nil)
	if err != nil {
		return took, err
	}
	defer func() {
		_ = p.cmd.Process.Kill()
		<-p.ended
	}()
	err = firstAnswer(ctx, address, p.ended)
	return startTimes{all: time.Since(began)}, err
}

// jetway starts a drone, and adds how it starts what is to be run.
func (s *starter) jetway(kinds []*startKind, drone StartDrone, executable any) ([]*startKind, error) {
	raw, err := json.Marshal(executable)
	if err != nil {
		return nil, err
	}
	drone.Name = s.droneName(drone.Runtime)
	drone.Cluster = drone.Runtime + "-" + cluster(s.run)
	p, err := start("the drone", s.cfg.DroneCommand(drone), s.cfg.Env, nil)
	if err != nil {
		return nil, err
	}
	s.drones = append(s.drones, p)
	return append(kinds, &startKind{what: kinds[len(kinds)-1].what, by: ByJetway, start: func(ctx context.Context) (startTimes, error) {
		return s.backend(ctx, p, messages.SpawnConfig{Cluster: drone.Cluster, Executable: raw})
	}}), nil
}

// startTimeout bounds a start, with the end of what was started, and what the bench starts for itself. Only a hang meets
// it: a machine that is slow is measured, too.
const startTimeout = 10 * time.Minute

// backend has Jetway start a backend, and end it again.
func (s *starter) backend(ctx context.Context, drone *process, config messages.SpawnConfig) (took startTimes, err error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	config.ID = fmt.Sprintf("bench-%s-%d", s.run, s.count.Add(1))
	type heard struct {
		messages.StateEvent
		at time.Time
	}
	states := make(chan heard, 64)
	sub, err := s.nc.Subscribe(messages.BackendEventSubject(config.ID), func(m *nats.Msg) {
		at := time.Now()
		var event messages.StateEvent
		if json.Unmarshal(m.Data, &event) == nil {
			states <- heard{event, at}
		}
	})
	if err != nil {
		return took, err
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := s.nc.FlushWithContext(ctx); err != nil {
		return took, err
	}
	began, replied, err := s.connect(ctx, drone, messages.ConnectRequest{SpawnConfig: &config})
	if err != nil {
		return took, err
	}
	took.steps = map[string]time.Duration{stepReply: replied.Sub(began)}
	// await hears states up to one.
	await := func(want messages.Status) error {
		for {
			select {
			case state := <-states:
				switch {
				case state.Status == want:
					took.all = state.at.Sub(began)
					return nil
				case state.Status == messages.Terminated:
					return fmt.Errorf("it ended: %s %s", state.Reason, state.Message)
				}
				took.steps[state.Status.String()] = state.at.Sub(began)
			case <-drone.ended:
				return drone.failed()
			case <-ctx.Done():
				return fmt.Errorf("backend %s is not %s: %w", config.ID, want, ctx.Err())
			}
		}
	}
	if err := await(messages.Ready); err != nil {
		return took, err
	}
	ready := took
	if _, err := jetwayclient.Request[messages.Empty](ctx, s.nc, messages.SubjectTerminate, messages.TerminateRequest{BackendID: config.ID, Hard: true}); err != nil {
		return took, fmt.Errorf("end it: %w", err)
	}
	return ready, await(messages.Terminated)
}

// connect asks for a backend, from the beginning again while its drone is not ready.
func (s *starter) connect(ctx context.Context, drone *process, req messages.ConnectRequest) (began, replied time.Time, err error) {
	for first := time.Now(); ; {
		began = time.Now()
		_, err = jetwayclient.Request[messages.ConnectResponse](ctx, s.nc, messages.SubjectConnect, req)
		var refused *messages.Error
		if !errors.As(err, &refused) || refused.Kind != messages.NoDroneAvailable || time.Since(first) > startTimeout {
			return began, time.Now(), err
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-drone.ended:
			return began, began, drone.failed()
		case <-ctx.Done():
			return began, began, ctx.Err()
		}
	}
}

// answerEvery lies between two looks for the first answer, answerWithin bounds one.
const (
	answerEvery  = time.Millisecond
	answerWithin = time.Second
)

// firstAnswer waits until something answers HTTP at an address, with whatever; an error
// if ended is closed before.
func firstAnswer(ctx context.Context, address string, ended <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(answerEvery)
	defer tick.Stop()
	for {
		err := answersHTTP(ctx, address)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ended:
			return errors.New("it ended before it answered")
		case <-ctx.Done():
			return fmt.Errorf("nothing answers at %s: %w", address, err)
		}
	}
}

func answersHTTP(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if _, err := fmt.Fprintf(conn, "HEAD / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", address); err != nil {
		return err
	}
	const protocol = "HTTP/1."
	said := make([]byte, len(protocol))
	if _, err := io.ReadFull(conn, said); err != nil {
		return err
	}
	if string(said) != protocol {
		return fmt.Errorf("it says %q", said)
	}
	return nil
}
