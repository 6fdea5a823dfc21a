package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/internal/conformance"
	"github.com/jetway-project/jetway/messages"
)

// conformanceCmd is `jetway conformance`.
type conformanceCmd struct {
	Drone conformanceDroneCmd `cmd:"" help:"Try a drone."`
	Proxy conformanceProxyCmd `cmd:"" help:"Try a proxy."`
}

// conformanceFlags are those of both.
type conformanceFlags struct {
	natsFlags `group:"NATS server:"`
	Wait      time.Duration `default:"30s" help:"How long each thing that is waited for may take. Default: ${default}."`
	Only      []string      `placeholder:"CHECK" help:"Try these checks only, with those that they build on; several, separated by commas. Default: all."`
	JSON      bool          `name:"json" help:"Print JSON: an object for each check, on a line of its own, as it comes."`
}

// conformanceDroneCmd is `jetway conformance drone`.
type conformanceDroneCmd struct {
	conformanceFlags
	Name       string        `arg:"" help:"The drone's name."`
	Executable string        `default:"{\"command\":[\"room\"]}" placeholder:"JSON" help:"What the drone is told to run: something that answers HTTP and ends when it is asked to. Default: ${default}."`
	Lease      time.Duration `default:"12s" help:"How long a lease lives here: a sixth of it lies between two heartbeats. Default: ${default}."`
}

// Help is part of jetway conformance drone --help.
func (c *conformanceDroneCmd) Help() string {
	return conformanceHelp + " Start the drone with this name and this NATS server, before the command or after it. It takes a minute or two. What the drone says of what it runs is compared with what answers at the addresses that it reports, so they should be reached from here."
}

// conformanceHelp is what both commands say of themselves.
const conformanceHelp = "The command plays the workers' part of messages/PROTOCOL.md on a NATS server with JetStream that --nats names, and where no worker runs: there would be two answers. It needs no Postgres. Each line is one thing that the protocol wants: PASS, FAIL with what was seen instead, or SKIP with why it could not be seen. The exit code is 1 if any fails."

// Run tries a drone.
func (c *conformanceDroneCmd) Run(r *run) error {
	if err := messages.CheckDroneName(c.Name); err != nil {
		return badFlag("NAME", err)
	}
	if c.Lease < time.Second || c.Lease > 10*time.Minute {
		return usagef("--lease: must be 1s to 10m, not %s", c.Lease)
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal([]byte(c.Executable), &object); err != nil || object == nil {
		return usagef("--executable: must be a JSON object such as {\"command\":[\"room\"]}")
	}
	checks, err := c.checks(conformance.DroneChecks())
	if err != nil {
		return err
	}
	nc, err := c.connect(r, "jetway conformance", "worker", nil)
	if err != nil {
		return err
	}
	defer bus.Drain(nc, drainTimeout)
	r.notef("jetway: playing the workers for %s at %s", c.Name, bus.Redact(nc.ConnectedUrl()))
	tally := c.tally(r, checks)
	return tally.result(conformance.Drone{
		Name: c.Name, Executable: json.RawMessage(c.Executable), Lease: c.Lease, Wait: c.Wait, Only: c.Only, Say: tally.say,
	}.Run(r.ctx, nc))
}

// conformanceProxyCmd is `jetway conformance proxy`.
type conformanceProxyCmd struct {
	conformanceFlags
	Name    string `arg:"" help:"The proxy's name."`
	URL     string `required:"" placeholder:"URL" help:"Where the proxy is reached from here, such as http://127.0.0.1:9090."`
	Cluster string `placeholder:"HOST[:PORT]" help:"The cluster that routes say, and visitors ask for. Default: the host of the URL."`
	Listen  string `default:"127.0.0.1:0" placeholder:"HOST:PORT" help:"Where the command's own backends listen, which the proxy must reach. Default: ${default}."`
}

// Help is part of jetway conformance proxy --help.
func (c *conformanceProxyCmd) Help() string {
	return conformanceHelp + " Start the proxy with this name and this NATS server. The command also is the visitors and the backends. It takes two minutes or three."
}

// Run tries a proxy.
func (c *conformanceProxyCmd) Run(r *run) error {
	if err := messages.CheckProxyName(c.Name); err != nil {
		return badFlag("NAME", err)
	}
	if at, err := url.Parse(c.URL); err != nil || at.Host == "" || at.Scheme != "http" && at.Scheme != "https" {
		return usagef("--url: must be like http://127.0.0.1:9090, not %q", c.URL)
	}
	checks, err := c.checks(conformance.ProxyChecks())
	if err != nil {
		return err
	}
	nc, err := c.connect(r, "jetway conformance", "worker", nil)
	if err != nil {
		return err
	}
	defer bus.Drain(nc, drainTimeout)
	r.notef("jetway: playing the workers for %s at %s", c.Name, bus.Redact(nc.ConnectedUrl()))
	tally := c.tally(r, checks)
	return tally.result(conformance.Proxy{
		Name: c.Name, URL: c.URL, Cluster: c.Cluster, Listen: c.Listen, Wait: c.Wait, Only: c.Only, Say: tally.say,
	}.Run(r.ctx, nc))
}

// checks checks the flags, and gives what there is to try.
func (f *conformanceFlags) checks(all []conformance.Check) ([]conformance.Check, error) {
	if f.Wait < time.Second || f.Wait > 10*time.Minute {
		return nil, usagef("--wait: must be 1s to 10m, not %s", f.Wait)
	}
	known := make(map[string]bool, len(all))
	ids := make([]string, len(all))
	for i, check := range all {
		known[check.ID], ids[i] = true, check.ID
	}
	for _, id := range f.Only {
		if !known[id] {
			return nil, usagef("--only: there is no check %q; there are %s", id, strings.Join(ids, ", "))
		}
	}
	return all, nil
}

// tally prints what comes of checks, and counts it.
type tally struct {
	r      *run
	json   bool
	width  int
	counts map[conformance.Verdict]int
}

func (f *conformanceFlags) tally(r *run, checks []conformance.Check) *tally {
	t := &tally{r: r, json: f.JSON, counts: map[conformance.Verdict]int{}}
	for _, check := range checks {
		t.width = max(t.width, len(check.ID))
	}
	return t
}

func (t *tally) say(result conformance.Result) {
	t.counts[result.Verdict]++
	if t.json {
		t.r.printJSON(result)
		return
	}
	t.r.printf("%s  %-*s  %s\n", strings.ToUpper(string(result.Verdict)), t.width, result.Check, result.Says)
	if result.Verdict != conformance.Pass {
		for line := range strings.Lines(result.Why) {
			t.r.printf("      %-*s  ↳ %s\n", t.width, "", strings.TrimSuffix(line, "\n"))
		}
		t.r.printf("      %-*s  ↳ see %s\n", t.width, "", result.See)
	}
}

// result is what the command ends with.
func (t *tally) result(err error) error {
	if err != nil {
		if other := new(conformance.OthersError); errors.As(err, &other) {
			return &failure{what: other.Error(), kind: "worker-runs", do: "name a NATS server with --nats where no worker runs", code: ExitFailed, err: err}
		}
		return err
	}
	all := t.counts[conformance.Pass] + t.counts[conformance.Fail] + t.counts[conformance.Skip]
	if failed := t.counts[conformance.Fail]; failed > 0 {
		return &failure{what: fmt.Sprintf("%d of %d checks fail", failed, all), kind: "not-conformant", do: "each line names what the protocol says", code: ExitFailed}
	}
	if skipped := t.counts[conformance.Skip]; skipped > 0 {
		t.r.notef("jetway: %d of %d checks pass, and %d could not be seen", all-skipped, all, skipped)
	} else {
		t.r.notef("jetway: all %d checks pass", all)
	}
	return nil
}
