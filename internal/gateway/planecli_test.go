//go:build plane

package gateway_test

import (
	"errors"
	"flag"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/gateway"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// make plane-cli installs these and names them.
var (
	planeCLI    = flag.String("plane", "", "Plane's own command, plane")
	planeClient = flag.String("plane-client", "", "testdata/plane, which uses Plane's own Rust client")
)

var colours = regexp.MustCompile("\x1b\\[[0-9;]*m")

// says runs a command and gives what it printed.
func says(t *testing.T, want int, command string, args ...string) string {
	t.Helper()
	if command == "" {
		t.Fatal("name Plane's programs by -plane and -plane-client: make plane-cli does")
	}
	out, err := exec.CommandContext(testkit.Context(t), command, args...).CombinedOutput()
	text := colours.ReplaceAllString(string(out), "")
	code := 0
	if ended, ok := errors.AsType[*exec.ExitError](err); ok {
		code = ended.ExitCode()
	} else {
		must(t, err)
	}
	if code != want {
		t.Fatalf("%s %v ends with %d: %s", command, args, code, text)
	}
	return text
}

func matches(t *testing.T, said string, wanted ...string) {
	t.Helper()
	for _, want := range wanted {
		if !regexp.MustCompile(want).MatchString(said) {
			t.Errorf("it says %q, wanted %s", said, want)
		}
	}
}

// Plane's own CLI takes the gateway for Plane, with a token in its URL.
func TestPlanesOwnCommand(t *testing.T) {
	file, token := tokens(t, gateway.Token{Name: "cli", Scopes: all})
	stack := ownStack(t)
	f := startOn(t, stack.NATSURL, func(c *gateway.Config) { c.TokensFile = file })
	url := strings.Replace(f.url, "http://", "http://"+token["cli"]+"@", 1)
	admin := func(code int, args ...string) string {
		t.Helper()
		return says(t, code, *planeCLI, append([]string{"admin", "--controller", url}, args...)...)
	}
	connect := []string{"connect", "--cluster", stack.Cluster, "--image", "x", "--key", "cli-doc"}
	matches(t, admin(0, "status"), `Status: ok`, `Version: 1\.2\.3 `)
	created := admin(0, connect...)
	matches(t, created, `Created backend: \S+`, `URL: http://\S+/`, `Status URL: http://127\.0\.0\.1`, `Drone: dr-dev`, `Status: scheduled at `, `Status: ready at `)
	id := regexp.MustCompile(`Created backend: (\S+)`).FindStringSubmatch(created)[1]
	matches(t, admin(0, append(connect, "--immediate", "--max-idle-seconds", "60", "--pool", "")...), `Reusing backend: `+id)
	matches(t, admin(0, "cluster-state", stack.Cluster), `dr-dev`, `Ready: true`, `Draining: false`, `Backend count: \d`, `Plane version: `)
	matches(t, admin(0, "terminate", id), `Sent termination signal `+id, `Status: terminated at `)
	matches(t, admin(0, "backend-status", id), `Status: scheduled at .*\n(.*\n)*Status: terminated at `)
	matches(t, admin(0, "terminate", id, "--hard", "--immediate"), `Sent termination signal`)
	matches(t, admin(1, "terminate", "none"), `API returned error status`, `Backend does not exist`, `404`)
	matches(t, admin(1, "connect", "--cluster", "nobody.test", "--image", "x"), `API returned error status`, `500`)
	static := admin(0, "connect", "--cluster", stack.Cluster, "--image", "x", "--id", "cli-static", "--static-token", "--subdomain", "sub", "--mount", "data")
	matches(t, static, `Created backend: cli-static`, `URL: http://sub\.\S+/s\.\S+/`, `Status: ready`)
	matches(t, admin(0, "drain", "--cluster", stack.Cluster, "--drone", "dr-dev"), `draining initiated`)
	matches(t, admin(0, "drain", "--cluster", stack.Cluster, "--drone", "dr-dev"), `already draining`)
	matches(t, admin(1, "connect", "--cluster", stack.Cluster, "--image", "x"), `API returned error status`, `500`)
	url = f.url
	matches(t, admin(1, "status"), `API returned error status|Unexpected status code`, `401`)
}

// Plane's own Rust client understands each answer.
func TestPlanesOwnRustClient(t *testing.T) {
	stack := ownStack(t)
	f := startOn(t, stack.NATSURL)
	want := strings.Join([]string{
		"status ok", "spawned true drone true", "joined true true", "is ready",
		"refused KeyHeld 409", "refused KeyUnheldNoSpawnConfig 409", "refused NotFound 404",
		"drones 1 ready true", "revoked", "ended Some(External) Some(false)", "drained true false", "",
	}, "\n")
	if got := says(t, 0, *planeClient, f.url, stack.Cluster, "dr-dev"); got != want {
		t.Errorf("it says %s\nwanted %s", got, want)
	}
	page := into[messages.BackendsResponse](t, f.ask("GET", "/v1/backends?all=true&key=rust-client", ""))
	if len(page.Backends) != 1 || page.Backends[0].Status != messages.Terminated {
		t.Errorf("it left %+v", page.Backends)
	}
}
