package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/alecthomas/kong"
	kongcompletion "github.com/jotaen/kong-completion"

	"github.com/jetway-project/jetway/internal/procs"
)

// Process is what a command has of the process it runs in.
type Process struct {
	// Program is how it was called, for hints to type. Default "jetway".
	Program string
	// Args are the arguments without the program's name.
	Args           []string
	Stdout, Stderr io.Writer
	// Kill, if not nil, is closed when the end of the context was not quick
	// enough: what is still being stopped is to be killed.
	Kill <-chan struct{}

	trial trial
}

// trial is what tests change of how commands wait, for less of their own time, or for a
// machine that is slower than any user's. The zero value is what users have.
type trial struct {
	now   func() time.Time // the clock
	look  time.Duration    // between two looks at what others do
	bound time.Duration    // of what is to be there, or to have ended, soon
}

const description = `Jetway gives you a URL to the one process that owns a key, and starts it if none runs.

First steps: jetway dev runs everything on this machine. Then jetway connect --key doc-1 --command room prints a URL for a browser, and jetway backends lists what runs.

Every flag can be given by the environment variable that its help names. Exit codes: 0 done; 1 refused or failed; 2 wrong use; 3 no worker, NATS server or database answers; 130 interrupted by Ctrl-C.`

// grammar is the command line. Kong reads it.
type grammar struct {
	Log logFlags `embed:"" group:"Log:"`

	Connect   connectCmd   `cmd:"" group:"Sessions:" help:"Get the URL of the backend that owns a key. If none runs, start one."`
	Backends  backendsCmd  `cmd:"" group:"Sessions:" help:"List backends."`
	Keys      keysCmd      `cmd:"" group:"Sessions:" help:"List keys: live, asleep, dormant and backing off."`
	Status    statusCmd    `cmd:"" group:"Sessions:" help:"Show one backend."`
	Watch     watchCmd     `cmd:"" group:"Sessions:" help:"Follow the states of one backend, or of all."`
	Logs      logsCmd      `cmd:"" group:"Sessions:" help:"Show the output of a backend."`
	Top       topCmd       `cmd:"" group:"Sessions:" help:"Show how much processor time and memory backends use."`
	Sleep     sleepCmd     `cmd:"" group:"Sessions:" help:"Put a backend to sleep, until somebody visits it."`
	Wake      wakeCmd      `cmd:"" group:"Sessions:" help:"Wake a backend that sleeps."`
	Terminate terminateCmd `cmd:"" group:"Sessions:" help:"End a backend."`
	Revoke    revokeCmd    `cmd:"" group:"Sessions:" help:"Revoke connection tokens: links with them stop working, and open connections are cut."`

	Drones  dronesCmd  `cmd:"" group:"Operators:" help:"List drones, the machines that run backends."`
	Workers workersCmd `cmd:"" group:"Operators:" help:"List workers, with their version, uptime and settings."`
	Proxies proxiesCmd `cmd:"" group:"Operators:" help:"List proxies, with their version, uptime and settings."`
	Drain   drainCmd   `cmd:"" group:"Operators:" help:"Drain a drone: it gets no new backends. Wait until those that it has are gone."`
	Undrain undrainCmd `cmd:"" group:"Operators:" help:"End the drain of a drone: it gets new backends again."`
	Forget  forgetCmd  `cmd:"" group:"Operators:" help:"Forget a drone that is lost."`
	Retry   retryCmd   `cmd:"" group:"Operators:" help:"Forgive a key that its backends failed, so that it may be started at once."`

	Template templateCmd `cmd:"" group:"Operators:" help:"Put, show, list and delete templates: programs with names, of which drones keep spares."`

	LeaseTTL leaseTTLCmd `cmd:"" group:"Operators:" name:"lease-ttl" help:"Show or change how long leases live."`
	TokenKey tokenKeyCmd `cmd:"" group:"Operators:" name:"token-key" help:"Make a key that workers seal static tokens with."`
	Database databaseCmd `cmd:"" group:"Operators:" help:"Show whether the workers believe what the database says, or tell them that it was restored."`

	Dev     devCmd     `cmd:"" group:"Roles:" help:"Run everything on this machine: NATS, Postgres, a worker, a drone and a proxy."`
	Worker  workerCmd  `cmd:"" group:"Roles:" help:"Run a worker. It answers requests."`
	Drone   droneCmd   `cmd:"" group:"Roles:" help:"Run a drone. It runs backends on this machine."`
	Guard   guardCmd   `cmd:"" group:"Roles:" help:"Run the guard of a drone. It kills backends that are past their lease if the drone cannot."`
	Proxy   proxyCmd   `cmd:"" group:"Roles:" help:"Run a proxy. It routes browsers to backends."`
	Gateway gatewayCmd `cmd:"" group:"Roles:" help:"Run a gateway. It answers on HTTP what workers answer on the bus, also as Plane does, and has a page for operators."`
	DNS     dnsCmd     `cmd:"" group:"Roles:" name:"dns" help:"Run a DNS server. It answers certificate authorities, so that proxies get wildcard certificates."`

	Bench       benchCmd                  `cmd:"" group:"More:" help:"Measure a stack."`
	Conformance conformanceCmd            `cmd:"" group:"More:" help:"Try whether a drone or a proxy that somebody else wrote does what the protocol says."`
	Completion  kongcompletion.Completion `cmd:"" group:"More:" help:"Print the command that turns on completion in bash, zsh or fish."`
	Version     versionCmd                `cmd:"" group:"More:" help:"Show the version."`
}

// run is what every command's Run method is given.
type run struct {
	// ctx ends when the command is to stop, or when the NATS server refused what it
	// needs: see refused.
	ctx     context.Context
	program string
	args    []string // as given
	kill    <-chan struct{}
	stdout  io.Writer
	stderr  io.Writer
	log     *slog.Logger
	now     func() time.Time
	trial   trial
}

// ticker is for looks at what others do.
func (r *run) ticker(every time.Duration) *time.Ticker {
	return time.NewTicker(cmp.Or(r.trial.look, every))
}

// bound is how long to wait for what is to be there, or to have ended, soon.
func (r *run) bound(d time.Duration) time.Duration { return cmp.Or(r.trial.bound, d) }

// printf writes to standard output. If that fails, its reader has gone, which is no error of the command.
func (r *run) printf(format string, args ...any) { _, _ = fmt.Fprintf(r.stdout, format, args...) }

// notef writes a line for people to standard error.
func (r *run) notef(format string, args ...any) { _, _ = fmt.Fprintf(r.stderr, format+"\n", args...) }

// exited is how kong's wish to exit (after --help) leaves the parser.
type exited int

// Run runs one command and gives the exit code. The end of ctx asks it to stop.
func Run(ctx context.Context, p Process) (code int) {
	defer func() {
		if r := recover(); r != nil {
			exit, ok := r.(exited)
			if !ok {
				panic(r)
			}
			code = int(exit)
		}
	}()
	if isFirst(p.Args) {
		program, err := os.Executable()
		if err != nil {
			return report(p.Stderr, wantsJSON(p.Args), err)
		}
		return asFirst(ctx, p.Stderr, p.Kill, program, p.Args...)
	}
	var g grammar
	parser, err := newParser(&g, p)
	if err != nil {
		return report(p.Stderr, wantsJSON(p.Args), err)
	}
	if asked, err := suggestWords(&run{ctx: ctx, stdout: p.Stdout, trial: p.trial}, parser); asked || err != nil {
		return report(p.Stderr, wantsJSON(p.Args), err)
	}
	args := p.Args
	switch {
	case len(args) == 0:
		args = []string{"--help"}
	case args[0] == "help":
		args = append(slices.Clone(args[1:]), "--help")
	case args[0] == "--version":
		args = []string{"version"}
	}
	parsed, err := parser.Parse(args)
	if err != nil {
		return report(p.Stderr, wantsJSON(p.Args), parseError(err))
	}
	if err := missing(parsed); err != nil {
		return report(p.Stderr, wantsJSON(p.Args), inWordsOf(parsed.Selected(), err))
	}
	log, err := g.Log.logger(p.Stderr, parsed.Command())
	if err != nil {
		return report(p.Stderr, wantsJSON(p.Args), err)
	}
	if command := parsed.Command(); command == "drone" || command == "guard" {
		if err := procs.Seal(); err != nil { // backends may be the same user
			return report(p.Stderr, wantsJSON(p.Args), err)
		}
	}
	r := &run{ctx: ctx, args: args, program: cmp.Or(p.Program, "jetway"), kill: p.Kill, stdout: p.Stdout, stderr: p.Stderr, log: log, now: time.Now, trial: p.trial}
	if p.trial.now != nil {
		r.now = p.trial.now
	}
	err = parsed.Run(r)
	if refused := r.refused(); err != nil && refused != nil {
		err = refused // what came of it says less
	}
	return report(p.Stderr, wantsJSON(p.Args), inWordsOf(parsed.Selected(), err))
}

func newParser(g *grammar, p Process) (*kong.Kong, error) {
	return kong.New(g,
		kong.Name("jetway"),
		kong.Description(description),
		kong.Writers(p.Stdout, p.Stderr),
		kong.Exit(func(code int) { panic(exited(code)) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true, WrapUpperBound: 120}),
		kong.DefaultEnvars("JETWAY"),
		kong.PostBuild(emptyIsUnset),
		kong.PostBuild(saysDefaults),
	)
}
