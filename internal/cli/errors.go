package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/jetway-project/jetway/messages"
)

// Exit codes.
const (
	ExitOK          = 0
	ExitFailed      = 1   // refused, or failed
	ExitUsage       = 2   // wrong flags or arguments
	ExitUnavailable = 3   // no worker, NATS server or database answers
	ExitInterrupted = 130 // stopped by a signal before it was done
)

// failure is an error as the command prints it: `jetway: what (kind): do`.
type failure struct {
	what string
	kind string
	do   string
	id   string // under which a worker's log says more
	code int
	err  error
}

func (f *failure) Error() string { return f.what }
func (f *failure) Unwrap() error { return f.err }

// usagef is wrong use; format should name the flag.
func usagef(format string, args ...any) error {
	return &failure{what: fmt.Sprintf(format, args...), kind: "usage", do: seeHelp, code: ExitUsage}
}

const seeHelp = "see jetway --help"

// isMissing is how kong says that an argument is missing.
var isMissing = regexp.MustCompile(`^expected "<(\S+)>"$`)

// parseError is what kong refuses.
func parseError(err error) error {
	f := &failure{what: suggest(err.Error()), kind: "usage", do: seeHelp, code: ExitUsage, err: err}
	if m := isMissing.FindStringSubmatch(f.what); m != nil {
		f.what = strings.ToUpper(m[1]) + ": is missing"
	}
	var parse *kong.ParseError
	if errors.As(err, &parse) && parse.Context != nil {
		if node := parse.Context.Selected(); node != nil {
			f.do = "see " + node.FullPath() + " --help"
		}
	}
	return f
}

// stopped forgives the error of a role that was told to end.
func stopped(r *run, err error) error {
	if r.refused() == nil && r.ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// seenEnough is the error of a command that shows things until the user stops it, by which it has
// done all that it can: there is nothing to say but by the exit code.
func seenEnough(r *run, err error) error {
	if r.refused() == nil && r.ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return &failure{kind: "interrupted", code: ExitInterrupted, err: err}
	}
	return err
}

// wantsJSON says whether the caller expects JSON, even if the other arguments cannot be read.
func wantsJSON(args []string) bool {
	if n := slices.Index(args, "--"); n >= 0 {
		args = args[:n]
	}
	asked, err := strconv.ParseBool(os.Getenv("JETWAY_JSON"))
	return slices.Contains(args, "--json") || err == nil && asked && !slices.Contains(args, "--json=false")
}

// jsonError is an error for programs.
type jsonError struct {
	Error struct {
		Kind     string `json:"kind"`
		Message  string `json:"message"`
		Do       string `json:"do,omitempty"`
		ID       string `json:"id,omitempty"`
		ExitCode int    `json:"exit_code"`
	} `json:"error"`
}

// report writes err as one line, for people or for programs, and gives the exit code.
func report(stderr io.Writer, asJSON bool, err error) int {
	if err == nil {
		return ExitOK
	}
	f := explain(err)
	switch {
	case f.what == "":
		return f.code
	case asJSON:
		var e jsonError
		e.Error.Kind, e.Error.Message, e.Error.Do = cmp.Or(f.kind, "failed"), oneLine(f.what), f.do
		e.Error.ID, e.Error.ExitCode = f.id, f.code
		_, _ = fmt.Fprintf(stderr, "%s\n", messages.Encode(e))
		return f.code
	}
	line := "jetway: " + f.what
	if f.kind != "" && f.kind != f.what {
		line += " (" + f.kind + ")"
	}
	if f.do != "" {
		line += ": " + f.do
	}
	_, _ = fmt.Fprintln(stderr, oneLine(line))
	return f.code
}

// explain says of any error what kind it is and what to do.
func explain(err error) *failure {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	var refused *messages.Error
	if !errors.As(err, &refused) {
		if errors.Is(err, context.Canceled) {
			return &failure{what: "interrupted", kind: "interrupted", code: ExitInterrupted}
		}
		return &failure{what: err.Error(), code: ExitFailed}
	}
	f = &failure{
		what: strings.Replace(err.Error(), string(refused.Kind)+": ", "", 1),
		kind: string(refused.Kind),
		do:   advice[refused.Kind],
		id:   refused.ID,
		code: ExitFailed,
	}
	switch refused.Kind {
	case messages.Unavailable:
		f.code = ExitUnavailable
		switch refused.Reason {
		case messages.UnavailableRestored:
			f.do = "jetway database shows how long yet"
		case messages.UnavailableMigrating:
			f.do = "the worker's log says how far it is"
		}
	case messages.BadRequest:
		f.what = nameFlags(f.what)
	}
	if refused.ID != "" && (refused.Kind == messages.Internal || refused.Kind == messages.FailedToAcquireKey) {
		f.do += ", under id " + refused.ID
	}
	return f
}

// advice is what to do about each kind of refusal.
var advice = map[messages.Kind]string{
	messages.BadRequest:             "mend the value and try again",
	messages.NoClusterProvided:      "give --cluster, or start the worker with --default-cluster",
	messages.NotFound:               "jetway backends --all lists what there is",
	messages.KeyHeld:                "use the tag it runs with (jetway backends shows it), or end it first",
	messages.KeyUnheldNoSpawnConfig: "give --command, --executable or --template to start one",
	messages.BackendExists:          "choose another --id, or none",
	messages.KeyHeldUnhealthy:       "try again, or give it longer with --timeout",
	messages.FailedToAcquireKey:     "try again; the worker's log says more",
	messages.NoDroneAvailable:       "jetway drones shows who is ready; start one with jetway drone",
	messages.CannotSleep:            "jetway status shows what it is",
	messages.TemplateChanged:        "jetway template get shows it as it is now",
	messages.Forbidden:              "give --template",
	messages.BackingOff:             "mend what its last words say, then jetway retry KEY; or wait and try again",
	messages.Overloaded:             "try again in a moment, or start more workers",
	messages.Unavailable:            "see that NATS, a worker and its database run; nats micro ls lists workers",
	messages.Internal:               "the worker's log says more",
}

// flagOf is the flag that fills a field of the protocol.
var flagOf = strings.NewReplacer(
	"spawn_config.lifetime_limit_seconds", "--lifetime",
	"spawn_config.max_idle_seconds", "--max-idle",
	"spawn_config.sleep_after_seconds", "--sleep-after",
	"spawn_config.sleep_ignores_idle_connections", "--sleep-ignores-idle-connections",
	"spawn_config.executable", "--executable",
	"spawn_config.template", "--template",
	"spawn_config.subdomain", "--subdomain",
	"spawn_config.origin", "--origin",
	"spawn_config.cluster", "--cluster",
	"spawn_config.pool", "--pool",
	"spawn_config.id", "--id",
	"key.name", "--key",
	"key.namespace", "--namespace",
	"key.tag", "--tag",
	"backend_id", "BACKEND",
	"user: ", "--user: ",
	"auth: ", "--auth: ",
	"drone: ", "--drone: ",
	"end_after_seconds: ", "--end-after: ",
	"changed_within_seconds: ", "--since: ",
	"namespace: ", "--namespace: ",
	"claim_path: ", "--claim-path: ",
	"spares: ", "--spares: ",
	"lifetime_limit_seconds: ", "--lifetime: ",
	"max_idle_seconds: ", "--max-idle: ",
	"revision: ", "--revision: ",
	"executable", "--executable",
	"template: ", "--name: ", "name: ", "--name: ", // an argument's
	"cluster: ", "--cluster: ",
	"pool: ", "--pool: ",
)

// limitFlags does the same for the limits that a refusal compares the field with.
var limitFlags = strings.NewReplacer("max_idle_seconds", "--max-idle", "lifetime_limit_seconds", "--lifetime")

// nameFlags replaces the field that a refusal names, in front of its colon, by the flag that fills it.
func nameFlags(what string) string {
	field, rest, ok := strings.Cut(what, ": ")
	if !ok {
		return what
	}
	return flagOf.Replace(field+": ") + limitFlags.Replace(rest)
}

// invalid is a value refused before it was sent: wrong use.
func invalid(err error) error {
	var refused *messages.Error
	if !errors.As(err, &refused) {
		return err
	}
	return usagef("%s", nameFlags(refused.Message))
}

func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' }), " ")
}
