package cli

import (
	"context"
	"errors"
	"time"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/internal/dev"
)

const (
	// stopTimeout is after how long what is still running is killed. Ctrl-C is
	// to have ended everything within 10 s.
	stopTimeout = 8 * time.Second
	// demoTimeout is how long the demo backend may take until it is ready.
	demoTimeout = 30 * time.Second
)

// devCmd is `jetway dev`.
type devCmd struct {
	Data        string `type:"path" default:".jetway" help:"Directory for all data. Default: ${default}."`
	NATSPort    int    `name:"nats-port" default:"4222" help:"Port of the NATS server; 0 for any free one."`
	NATSHost    string `name:"nats-host" default:"127.0.0.1" help:"Address of the NATS server."`
	ProxyPort   int    `default:"7470" help:"Port of the proxy; 0 for any free one."`
	ProxyHost   string `default:"127.0.0.1" help:"Address of the proxy."`
	GatewayPort int    `default:"9080" help:"Port of the gateway (HTTP API and page for operators), which only this machine reaches; 0 for any free one."`
	Runtime     string `enum:"process,docker,fake" default:"process" help:"What runs backends: ${enum}. docker runs containers, and for the demo the image that make images builds; fake runs nothing, for measuring."`
	DockerHost  string `placeholder:"URL" help:"Where the engine, Docker or Podman, answers. Default: DOCKER_HOST, or the usual socket."`
	ProcessRoot string `type:"path" placeholder:"DIR" help:"Directory of the programs that may run. Default: that of jetway itself."`
	Origin      bool   `help:"Give sessions host names of their own, LABEL.localhost (origin mode), unless a connect says otherwise."`
	Embedded    bool   `help:"Let sessions in origin mode be shown in frames of other sites' pages."`
	NoDemo      bool   `help:"Do not start the demo backend."`
	metricsFlags
	traceFlags
	leaseFlags
	retention
	streamFlags
}

// Run runs everything until the command is stopped or a part fails.
func (c *devCmd) Run(r *run) error {
	streams, err := c.streams(1)
	if err := errors.Join(err, c.leaseFlags.validate(), c.retention.validate()); err != nil {
		return err
	}
	stack, err := dev.Start(r.ctx, dev.Config{
		Data:     c.Data,
		NATSHost: c.NATSHost, NATSPort: c.NATSPort,
		ProxyHost: c.ProxyHost, ProxyPort: c.ProxyPort,
		GatewayPort: c.GatewayPort,
		Origins:     c.Origin, Embedded: c.Embedded,
		Runtime: c.Runtime, ProcessRoot: c.ProcessRoot, DockerHost: c.DockerHost,
		MetricsAddr: c.MetricsAddr, OTLPEndpoint: c.OTLPEndpoint,
		Grace:    r.trial.bound,
		Retain:   c.Retain,
		Terms:    c.terms(),
		Streams:  streams,
		Version:  version(),
		Progress: func(line string) { r.printf("%s\n", line) },
		Log:      r.log,
	})
	if err != nil {
		if r.ctx.Err() != nil {
			return context.Canceled
		}
		return err
	}
	err = c.follow(r, stack)
	r.printf("stopping\n")
	return errors.Join(err, r.stopStack(stack))
}

// stopStack stops a stack, killing it on the second signal.
func (r *run) stopStack(stack *dev.Stack) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), r.bound(stopTimeout))
	defer cancel()
	if r.kill != nil {
		done := make(chan struct{})
		defer close(done)
		go func() {
			select {
			case <-r.kill:
				cancel()
			case <-done:
			}
		}()
	}
	err := stack.Stop(ctx)
	if errors.Is(err, dev.ErrKilled) && r.killed() {
		return context.Canceled // as the user wanted
	}
	return err
}

// killed says whether there was a second signal.
func (r *run) killed() bool {
	select {
	case <-r.kill:
		return true
	default:
		return false
	}
}

// follow says how to use the stack, then shows what happens on it until the user
// stops it or a part of it fails.
func (c *devCmd) follow(r *run, stack *dev.Stack) error {
	nc, err := stack.Dial(r.ctx, "jetway dev")
	if err != nil {
		return err
	}
	defer nc.Close()
	if !c.NoDemo && c.Runtime != dev.RuntimeFake {
		demoCtx, cancel := context.WithTimeout(r.ctx, r.bound(demoTimeout))
		defer cancel()
		if resp, err := stack.Demo(demoCtx, nc); err == nil {
			r.printf("\nopen %s\n", resp.URL)
		} else if r.ctx.Err() == nil {
			r.notef("jetway: no demo: %s", oneLine(explain(err).what))
		}
	}
	c.help(r, stack)
	watching, cancel := context.WithCancel(r.ctx)
	defer cancel()
	watched := make(chan error, 1)
	go func() {
		for event, err := range bus.WatchAll(watching, nc) {
			if err != nil {
				watched <- err
				return
			}
			r.printEvent(event, false, true)
		}
	}()
	select {
	case <-r.ctx.Done():
		<-watched
		return nil
	case <-stack.Done():
		cancel()
		<-watched
		return stack.Err()
	case err := <-watched:
		return stopped(r, err)
	}
}

func (c *devCmd) help(r *run, stack *dev.Stack) {
	server := ""
	if stack.NATSURL != defaultNATS {
		server = " --nats " + stack.NATSURL
	}
	metrics, executable := "", "--command room"
	if c.Runtime == dev.RuntimeDocker {
		executable = `--executable '{"image":"jetway-room"}'`
	}
	if stack.MetricsURL != "" {
		metrics = "\n  metrics     " + stack.MetricsURL + "/metrics"
	}
	r.printf(`
  another     %s connect%s --key doc-1 %s
  the bus     nats --server %s sub 'jetway.event.>'
  listings    %s backends%s    %s drones%s
  the page    %s
  data        %s%s
  Ctrl-C stops all of it

`, r.program, server, executable, stack.NATSURL, r.program, server, r.program, server, stack.GatewayURL, c.Data, metrics)
}

// defaultNATS is where clients look when they are told nothing.
const defaultNATS = "nats://127.0.0.1:4222"
