package cli

import (
	"errors"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/internal/store"
	"github.com/jetway-project/jetway/internal/worker"
	"github.com/jetway-project/jetway/messages"
)

// drainTimeout bounds the last words of a role on its NATS connection.
const drainTimeout = 3 * time.Second

// workerCmd is `jetway worker`.
type workerCmd struct {
	natsFlags      `group:"NATS server:"`
	Postgres       string        `required:"" placeholder:"DSN" help:"Postgres database, as a URL or as words (host=… dbname=…). Of several hosts (db-a,db-b) the one that takes writes is used. A pooler must keep sessions."`
	PostgresConns  int           `default:"8" help:"Most connections to Postgres at once, beside one that watches it."`
	Name           string        `default:"${worker_name}" help:"Name of this worker (wo-…)."`
	DefaultCluster string        `placeholder:"HOST[:PORT]" help:"Cluster for requests that name none."`
	Origin         bool          `help:"Give sessions hosts of their own below their cluster (origin mode), where a connect does not say. It takes *.CLUSTER in the DNS, and a certificate for it."`
	TemplatesOnly  bool          `help:"Refuse connects that bring an executable: then only what operators have put as templates runs."`
	TokenLifetime  time.Duration `default:"${token_lifetime}" help:"How long a connection token lives after its last use, where a connect does not say. Default: ${default}."`
	MaxUserData    string        `placeholder:"BYTES" default:"4KiB" help:"Most bytes that a connect's auth may take as the header x-verified-user-data, up to 64KiB. Many servers refuse requests with more than 8 KiB of headers in all (gunicorn, aiohttp) or 16 (Node.js). Default: ${default}."`
	StreamReplicas int           `default:"1" help:"How many servers of a NATS cluster keep each stream: 1, 3 or 5."`
	StartWithin    time.Duration `default:"${start_within}" help:"How long a backend may take from its scheduling until it is ready before the workers end it, should its drone not have done so: more than three times the longest --startup-timeout of a drone. Default: ${default}."`
	streamFlags
	metricsFlags
	traceFlags
	leaseFlags
	retention
}

// streamFlags say how large the streams may become. The NATS server reserves what they say.
type streamFlags struct {
	StreamActions string `placeholder:"BYTES" default:"256MiB" help:"Most bytes of the stream of actions, in the NATS server's memory. Default: ${default}. The server reserves what a stream may take; give all workers the same."`
	StreamEvents  string `placeholder:"BYTES" default:"2GiB" help:"Most bytes of the stream of events, in files. Default: ${default}."`
	StreamLogs    string `placeholder:"BYTES" default:"256MiB" help:"Most bytes of the stream of output lines, in files. Default: ${default}."`
}

func (c *streamFlags) streams(replicas int) (bus.Streams, error) {
	of := bus.Streams{Replicas: replicas}
	for _, f := range []struct {
		flag, text string
		size       *int64
	}{
		{"--stream-actions", c.StreamActions, &of.Actions}, {"--stream-events", c.StreamEvents, &of.Events}, {"--stream-logs", c.StreamLogs, &of.Logs},
	} {
		size, err := humanize.ParseBytes(f.text)
		if err != nil || size < bus.MinStream || size > 1<<50 {
			return of, usagef("%s: must be a number of bytes like 64MiB or 2GB, %s to 1PiB, not %q", f.flag, humanize.IBytes(bus.MinStream), f.text)
		}
		*f.size = int64(size)
	}
	return of, nil
}

// leaseFlags say for how long leases are given.
type leaseFlags struct {
	LeaseTTL time.Duration `default:"${lease_ttl}" help:"Time to live of leases, in a database where none is set yet: from then on all workers go by the database, and the command lease-ttl changes it. An outage of the database or of NATS that is shorter than two thirds of it ends no backend; a key whose drone has died is blocked for all of it. Default: ${default}."`
}

func (c *leaseFlags) validate() error {
	if c.LeaseTTL < minLeaseTTL || c.LeaseTTL > time.Hour {
		return usagef("--lease-ttl: must be %s to 1h", minLeaseTTL)
	}
	return nil
}

func (c *leaseFlags) terms() lease.Terms { return lease.Terms{TTL: c.LeaseTTL} }

// minLeaseTTL leaves a few seconds for a lost heartbeat to be sent again.
const minLeaseTTL = 15 * time.Second

// retention is the flag of those that delete.
type retention struct {
	Retain time.Duration `default:"${retain}" help:"How long backends that have ended, and drones that are lost, are kept. Default: ${default}."`
}

func (c *retention) validate() error {
	if c.Retain < worker.MinRetain {
		return usagef("--retain: must be at least %s", worker.MinRetain)
	}
	return nil
}

// Run is a worker until the command is stopped.
func (c *workerCmd) Run(r *run) error {
	if err := messages.CheckWorkerName(c.Name); err != nil {
		return badFlag("--name", err)
	}
	if c.DefaultCluster != "" {
		if err := messages.CheckCluster(c.DefaultCluster); err != nil {
			return badFlag("--default-cluster", err)
		}
		if c.Origin && !messages.Named(c.DefaultCluster) {
			return usagef("--origin: takes a cluster with a name, below which sessions have theirs, and --default-cluster %s is an IP address", c.DefaultCluster)
		}
	}
	if c.PostgresConns < 1 || c.PostgresConns > 1000 {
		return usagef("--postgres-conns: must be 1 to 1000, not %d", c.PostgresConns)
	}
	if c.StreamReplicas < 1 || c.StreamReplicas > 5 {
		return usagef("--stream-replicas: must be 1 to 5, not %d", c.StreamReplicas)
	}
	if c.StartWithin < worker.MinStartWithin {
		return usagef("--start-within: must be at least %s", worker.MinStartWithin)
	}
	if c.TokenLifetime < time.Second || c.TokenLifetime > messages.MaxSeconds*time.Second {
		return usagef("--token-lifetime: must be 1s to %s", messages.MaxSeconds*time.Second)
	}
	userData, err := humanize.ParseBytes(c.MaxUserData)
	if err != nil || userData < 1 || userData > messages.MaxAuth {
		return usagef("--max-user-data: must be a number of bytes like 4KiB, up to 64KiB, not %q", c.MaxUserData)
	}
	streams, err := c.streams(c.StreamReplicas)
	if err := errors.Join(err, c.leaseFlags.validate(), c.retention.validate()); err != nil {
		return err
	}
	st, err := store.Open(r.ctx, store.Config{DSN: c.Postgres, MaxConns: c.PostgresConns, Terms: c.terms(), Log: r.log})
	if err != nil {
		return usagef("--postgres: %v", err)
	}
	defer st.Close()
	tracer, err := c.open(r, "worker", c.Name)
	if err != nil {
		return err
	}
	defer tracer.Close()
	// Around the connection: a worker that waits for NATS is seen waiting.
	server, err := c.serve(r)
	if err != nil {
		return err
	}
	defer server.Close()
	nc, err := c.connect(r, c.Name, "worker", nil)
	if err != nil {
		return stopped(r, err)
	}
	defer bus.Drain(nc, drainTimeout)
	return stopped(r, worker.Run(r.ctx, worker.Config{
		Name:           c.Name,
		DefaultCluster: c.DefaultCluster,
		Origins:        c.Origin,
		TemplatesOnly:  c.TemplatesOnly,
		TokenLifetime:  c.TokenLifetime,
		MaxUserData:    int(userData),
		Retain:         c.Retain,
		StartWithin:    c.StartWithin,
		Streams:        streams,
		Version:        version(),
		Metrics:        server.Metrics(),
		Tracer:         tracer,
		Log:            r.log,
	}, nc, st))
}

// badFlag is a value that a part refused.
func badFlag(flag string, err error) error {
	if refused, ok := errors.AsType[*messages.Error](err); ok {
		if _, why, ok := strings.Cut(refused.Message, ": "); ok {
			return usagef("%s: %s", flag, why)
		}
	}
	return usagef("%s: %v", flag, err)
}
