package cli

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/messages"
)

// connectCmd is `jetway connect`.
type connectCmd struct {
	clientFlags

	Key       *string `placeholder:"NAME" help:"The key. Jetway gives the URL of the one process that owns it. Without a key, it starts a new process under a random key."`
	Namespace string  `placeholder:"NAME" help:"Namespace of the key."`
	Tag       string  `placeholder:"TAG" help:"Tag of the key. If the backend that owns the key has another tag, the request is refused."`

	Template string   `placeholder:"NAME" predictor:"template" help:"Start what the template of that name says, instead of --command: perhaps a spare of it is ready."`
	Args     []string `arg:"" optional:"" name:"args" help:"Arguments of the program, after --."`
	program

	ID          string        `name:"id" placeholder:"ID" help:"Id of the new backend. Default: random."`
	Cluster     string        `placeholder:"HOST[:PORT]" help:"Cluster of the new backend. Default: the worker's --default-cluster."`
	Pool        string        `placeholder:"NAME" help:"Pool of drones that may run the new backend."`
	MaxIdle     time.Duration `placeholder:"DURATION" help:"End the new backend this long after its last connection. Default: never."`
	SleepAfter  time.Duration `placeholder:"DURATION" help:"Put the new backend to sleep this long after its last connection, until somebody visits it. Default: never."`
	Ignores     bool          `name:"sleep-ignores-idle-connections" help:"With --sleep-after: connections that are open and silent do not keep the backend awake. Bytes do; a WebSocket's pings by the backend do not count."`
	Resume      time.Duration `placeholder:"DURATION" help:"Once the new backend has ended, let its URL start it again for this long, whoever visits it. Takes --key, and implies --static-token. Default: not at all."`
	Lifetime    time.Duration `placeholder:"DURATION" help:"End the new backend this long after its start. Default: never."`
	StaticToken bool          `help:"Give the new backend one token for its whole life, which all visitors share. Not with --user, --auth and --token-lifetime."`
	Subdomain   string        `placeholder:"LABEL" help:"Reach the new backend through this subdomain of its cluster only."`
	Origin      *bool         `negatable:"" help:"Give the new backend a host name of its own below its cluster (origin mode): --subdomain, or a random one. Default: the worker's --origin."`

	User          string        `placeholder:"NAME" help:"Who visits. The backend gets it as x-verified-username."`
	Auth          string        `placeholder:"JSON" help:"JSON object about the visitor. The backend gets it as x-verified-user-data."`
	TokenLifetime time.Duration `placeholder:"DURATION" help:"How long the link works after its last use. Default: the worker's --token-lifetime (1h)."`
	NoWait        bool          `help:"Print the URL at once, instead of when the backend is ready."`
}

// Help is part of jetway connect --help.
func (c *connectCmd) Help() string {
	return `Without --command, --executable and --template it only joins: if no process owns the key, the request is refused, unless the key is dormant (--resume): then it starts again.

Examples:
  jetway connect --key doc-1 --command room                     start the program room, or join it
  jetway connect --key doc-1 --user ada                         join, as ada
  jetway connect --command python/hello.py --max-idle 5m        start one under a random key
  jetway connect --key doc-1 --command room -- --size 3         give the program arguments
  jetway connect --key doc-1 --executable '{"image":"room:2"}'  run a container
  jetway connect --key doc-1 --command room --resume 720h       its URL works for 30 days after each end
  jetway connect --key doc-1 --template room                    start what an operator has put under that name
  jetway connect --key doc-1 --command room --json | jq -r .url`
}

// Run asks, then shows the backend's states until it is ready, then its URL.
func (c *connectCmd) Run(r *run) error {
	if err := c.check(r.args); err != nil {
		return err
	}
	req, err := c.request()
	if err != nil {
		return err
	}
	nc, err := c.open(r)
	if err != nil {
		return err
	}
	defer nc.Close()
	resp, err := ask[messages.ConnectResponse](r, &c.clientFlags, nc, messages.SubjectConnect, req)
	if err != nil {
		return err
	}
	if !c.JSON {
		c.printResponse(r, req, resp)
	}
	if !c.NoWait {
		if resp.Status, err = c.wait(r, nc, resp); err != nil {
			return err
		}
	}
	if c.JSON {
		return r.printIndented(resp)
	}
	r.printf("%s\n", resp.URL)
	return nil
}

func (c *connectCmd) printResponse(r *run, req messages.ConnectRequest, resp messages.ConnectResponse) {
	how := "joined"
	if resp.Spawned {
		how = "started on " + resp.Drone
	}
	if resp.Resumes != "" {
		how += ", resumes " + resp.Resumes
	}
	key := ""
	if req.Key != nil {
		key = keyText(*req.Key)
	}
	r.facts("backend", resp.BackendID+" ("+how+")", "key", key, "status", resp.Status.String())
}

// wait shows states until the backend is ready, and gives the last one.
func (c *connectCmd) wait(r *run, nc *nats.Conn, resp messages.ConnectResponse) (messages.Status, error) {
	if resp.Status == messages.Ready {
		return resp.Status, nil
	}
	for event, err := range watchProgress(r, &c.clientFlags, nc, resp.BackendID) {
		if err != nil {
			if r.ctx.Err() != nil {
				r.notef("jetway: the backend goes on: jetway watch %s", resp.BackendID)
			}
			return resp.Status, err
		}
		if !c.JSON && (event.Status > resp.Status || event.Status == messages.Loading && event.Message != "") {
			r.printEvent(event, false, false)
		}
		switch {
		case event.Status == messages.Ready:
			return event.Status, nil
		case event.Status.Leaving():
			return event.Status, endedEarly(event)
		}
	}
	return resp.Status, nil
}

// endedEarly is the error for a backend that ended before it was ready.
func endedEarly(e messages.StateEvent) error {
	kind := string(e.Reason)
	if kind == "" {
		kind = e.Status.String()
	}
	what := fmt.Sprintf("backend %s ended before it was ready", e.BackendID)
	if e.ExitCode != nil {
		what += fmt.Sprintf(", exit code %d", *e.ExitCode)
	}
	if e.Message != "" {
		what += ": " + e.Message
	}
	return &failure{what: what, kind: kind, do: "jetway watch " + e.BackendID + " shows how it went", code: ExitFailed}
}

// request puts the request together. Its errors name flags.
func (c *connectCmd) request() (messages.ConnectRequest, error) {
	var req messages.ConnectRequest
	if c.Key != nil || c.Namespace != "" || c.Tag != "" {
		req.Key = &messages.Key{Namespace: c.Namespace, Tag: c.Tag}
	}
	if c.Key != nil {
		req.Key.Name = *c.Key
	}
	req.User = c.User
	if c.Auth != "" {
		if !json.Valid([]byte(c.Auth)) {
			return req, usagef("--auth: is not JSON")
		}
		req.Auth = json.RawMessage(c.Auth)
	}
	executable, err := c.executable(c.Args)
	if err != nil {
		return req, err
	}
	if executable != nil && c.Template != "" {
		return req, usagef("--template: says what to run: leave out --command and --executable")
	}
	if executable != nil || c.Template != "" {
		spawn := &messages.SpawnConfig{
			ID: c.ID, Cluster: c.Cluster, Pool: c.Pool, Executable: executable, Template: c.Template,
			UseStaticToken: c.StaticToken || c.Resume != 0, Subdomain: c.Subdomain, Origin: c.Origin, SleepIgnoresIdleConnections: c.Ignores,
		}
		if spawn.MaxIdleSeconds, err = seconds("--max-idle", c.MaxIdle); err != nil {
			return req, err
		}
		if spawn.SleepAfterSeconds, err = seconds("--sleep-after", c.SleepAfter); err != nil {
			return req, err
		}
		if spawn.ResumeSeconds, err = seconds("--resume", c.Resume); err != nil {
			return req, err
		}
		if spawn.LifetimeLimitSeconds, err = seconds("--lifetime", c.Lifetime); err != nil {
			return req, err
		}
		req.SpawnConfig = spawn
	}
	if req.TokenLifetimeSeconds, err = seconds("--token-lifetime", c.TokenLifetime); err != nil {
		return req, err
	}
	if req.Key == nil && req.SpawnConfig == nil {
		return req, usagef("--key: give a key to join, or --command or --template to start something, or both")
	}
	if _, err := messages.Decode[messages.ConnectRequest](messages.Encode(req)); err != nil {
		return req, invalid(err)
	}
	return req, nil
}

// check refuses stray words, so that whoever forgets --key does not get a new process under a random key.
func (c *connectCmd) check(args []string) error {
	words := behind(args)
	switch {
	case len(c.Args) > words && c.Key == nil:
		return usagef("%s: is neither a flag nor behind --: a key is given as --key %[1]s, a program as --command %[1]s", c.Args[0])
	case len(c.Args) > words:
		return usagef("%s: is neither a flag nor behind --: a program is given as --command %[1]s, its arguments after --", c.Args[0])
	case c.Key != nil && *c.Key == "":
		return usagef("--key: must not be empty; leave it out for a new process under a random key")
	}
	return nil
}

// seconds turns a limit into the protocol's whole seconds; 0 is no limit.
func seconds(flag string, d time.Duration) (*int64, error) {
	if d == 0 {
		return nil, nil //nolint:nilnil // no limit is no error
	}
	if d < time.Second || d%time.Second != 0 {
		return nil, usagef("%s: must be whole seconds, 1s at least, not %s", flag, d)
	}
	n := int64(d / time.Second)
	return &n, nil
}
