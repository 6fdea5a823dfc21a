package cli

import (
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/bench"
)

// benchGatewayCmd is `jetway bench gateway`.
type benchGatewayCmd struct {
	natsFlags   `group:"NATS server:"`
	Gateway     string        `placeholder:"URL" help:"The gateway, http://HOST:PORT."`
	Token       string        `placeholder:"TOKEN" help:"A token with the scope connect, if the gateway wants one, and a rate beyond what is measured."`
	Dev         bool          `help:"Start a stack of its own for the run, with its data in a temporary directory."`
	Concurrency int           `default:"64" help:"Joins under way at once."`
	Duration    time.Duration `default:"2s" help:"How long each turn lasts."`
	Turns       int           `default:"5" help:"How many turns there are of each, one after the other."`
	Keys        int           `default:"1000" help:"Backends that the joins are spread over."`
	JSON        bool          `name:"json" help:"Print JSON."`
}

// Run measures and prints.
func (c *benchGatewayCmd) Run(r *run) error {
	cfg := bench.GatewayConfig{
		URL: c.Gateway, Token: c.Token, InFlight: c.Concurrency, Duration: c.Duration, Turns: c.Turns, Keys: c.Keys, Log: r.log,
		Progress: func(what string) { r.notef("measuring: %s", what) },
		Dial:     func(name string) (*nats.Conn, error) { return c.connect(r, name, "operator", nil) },
	}
	if c.Dev {
		stack, remove, err := r.benchStack()
		if err != nil {
			return stopped(r, err)
		}
		defer remove()
		cfg.URL, cfg.Dial = stack.GatewayURL, func(name string) (*nats.Conn, error) { return stack.Dial(r.ctx, name) }
	}
	if err := cfg.Validate(); err != nil {
		return usagef("%v", err)
	}
	result, err := bench.Gateway(r.ctx, cfg)
	if err != nil {
		return stopped(r, err)
	}
	var failed error
	var rows [][]string
	for _, f := range []bench.Figures{result.NATS, result.Gateway} {
		rows = append(rows, []string{f.Name, fmt.Sprintf("%.0f", f.Rate), fmt.Sprintf("%.2f", f.P50), fmt.Sprintf("%.2f", f.P99), fmt.Sprint(f.Failed)})
		if f.Failed > 0 {
			failed = errors.Join(failed, fmt.Errorf("%s: %d of %d failed: %s", f.Name, f.Failed, f.Failed+f.Count, f.Error))
		}
	}
	if c.JSON {
		r.printJSON(result)
		return failed
	}
	r.table([]string{"LOAD", "PER SECOND", "P50 MS", "P99 MS", "FAILED"}, rows)
	r.printf("through the gateway: %.2f of those over NATS\n", result.Ratio)
	return failed
}
