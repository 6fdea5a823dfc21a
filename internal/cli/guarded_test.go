package cli

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/messages"
)

// guarded is a server that runs with the configuration of deploy/nats.
type guarded struct {
	t     *testing.T
	url   string
	ca    string
	seeds map[string]string // files, by user
}

// environment is of one reading of the configuration at a time.
var environment sync.Mutex

func newGuarded(t *testing.T) *guarded {
	t.Helper()
	tls := testkit.NewAuthority(t)
	cert, key := tls.Server()
	g := &guarded{t: t, ca: tls.CA, seeds: map[string]string{}}
	values := map[string]string{"JETWAY_NATS_STORE": t.TempDir(), "JETWAY_NATS_CERT": cert, "JETWAY_NATS_KEY": key}
	for _, user := range []string{"worker", "proxy", "dns", "web", "gateway", "operator", "dr-a", "dr-b"} {
		seed, public := newNkey(t)
		g.seeds[user] = seed
		values["JETWAY_NKEY_"+strings.ReplaceAll(strings.ToUpper(user), "-", "_")] = public
	}
	environment.Lock()
	defer environment.Unlock()
	for name, value := range values {
		if err := os.Setenv(name, value); err != nil { //nolint:usetesting // under the lock, and the test is parallel
			t.Fatal(err)
		}
	}
	opts, err := server.ProcessConfigFile(filepath.Join("..", "..", "deploy", "nats", "nats-server.conf"))
	if err != nil {
		t.Fatal(err)
	}
	g.url = natstest.Configured(t, opts)
	return g
}

// newNkey makes a user's nkey: the file of its seed, and its public part.
func newNkey(t *testing.T) (file, public string) {
	t.Helper()
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	if public, err = pair.PublicKey(); err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "user.nk")
	if err := os.WriteFile(file, seed, 0o600); err != nil {
		t.Fatal(err)
	}
	return file, public
}

// flags are those that make somebody one of the users.
func (g *guarded) flags(user string) []string {
	return []string{"--nats", g.url, "--nkey", g.seeds[user], "--tls-ca", g.ca}
}

// run runs a command of a user to its end, which must be a good one.
func (g *guarded) run(user string, args ...string) string {
	g.t.Helper()
	args = append(args, g.flags(user)...)
	if user == "web" {
		args = append(args, "--inbox-prefix", "_INBOX.web")
	}
	stdout, stderr, code := jetway(g.t, args...)
	if code != ExitOK || stderr != "" {
		g.t.Fatalf("jetway %s: exit code %d, %s", strings.Join(args, " "), code, stderr)
	}
	return stdout
}

// role runs a role as a user until the test ends. It must be refused nothing.
func (g *guarded) role(user string, args ...string) *output {
	g.t.Helper()
	log := g.roleAs(g.flags(user), args...)
	g.t.Cleanup(func() {
		if strings.Contains(strings.ToLower(log.String()), "permissions") {
			g.t.Errorf("%s was refused something:\n%s", user, log)
		}
	})
	return log
}

func (g *guarded) roleAs(flags []string, args ...string) *output {
	g.t.Helper()
	role := begin(g.t, append(args, flags...)...)
	g.t.Cleanup(func() {
		role.stop()
		role.ends(ExitOK)
	})
	return role.stderr
}

// conn connects as a user; what the server forbids it goes to forbidden.
func (g *guarded) conn(user string) (nc *nats.Conn, forbidden chan error) {
	g.t.Helper()
	forbidden = make(chan error, 64)
	return g.connAs(user, func(err error) { forbidden <- err }), forbidden
}

// connAs is conn with another place for what is forbidden.
func (g *guarded) connAs(user string, forbidden func(err error)) *nats.Conn {
	g.t.Helper()
	key, err := nats.NkeyOptionFromSeed(g.seeds[user])
	if err != nil {
		g.t.Fatal(err)
	}
	return natstest.Conn(g.t, g.url, key, nats.RootCAs(g.ca), nats.CustomInboxPrefix(messages.InboxPrefix(user)),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { forbidden(err) }))
}

// verdict says whether the server lets somebody publish or listen there.
func verdict(t *testing.T, nc *nats.Conn, forbidden chan error, do func() error) bool {
	t.Helper()
	if err := do(); err != nil {
		t.Fatal(err)
	}
	// The server's refusal comes before its answer to this; both are read in order,
	// and reported by one goroutine, behind which nothing else is due.
	if err := nc.FlushWithContext(testkit.Context(t)); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(nc.LastError(), nats.ErrPermissionViolation) {
		return true
	}
	if err := testkit.Receive(t, forbidden, "the report of the refusal"); !errors.Is(err, nats.ErrPermissionViolation) {
		t.Fatal(err)
	}
	return false
}

// refusal finds in what the server says of one what it was: publishing, listening or sharing, and where.
var refusal = regexp.MustCompile(`Permissions Violation for (Publish|Subscription) to "([^"]+)"(?: using queue)?`)

// forbids does all of that as a user on one connection, each under its name, which is what the server says of it.
func (g *guarded) forbids(user string, do map[string]func(nc *nats.Conn) error) {
	g.t.Helper()
	// What nobody may do comes last: once that is refused, so is all that is.
	const nobodys = "jetway.nobody.may"
	refused, last := make(map[string]bool), make(chan struct{})
	nc := g.connAs(user, func(err error) {
		match := refusal.FindStringSubmatch(err.Error())
		if match == nil {
			g.t.Errorf("%s hears %v", user, err)
			return
		}
		if match[2] == nobodys {
			close(last)
			return
		}
		refused[match[0]] = true
	})
	defer nc.Close()
	for what, do := range do {
		if err := do(nc); err != nil {
			g.t.Fatalf("%s: %s: %v", user, what, err)
		}
	}
	if err := nc.Publish(nobodys, nil); err != nil {
		g.t.Fatal(err)
	}
	testkit.Receive(g.t, last, "the last refusal")
	for what := range do {
		if !refused["Permissions Violation for "+what] {
			g.t.Errorf("%s is not refused: %s", user, what)
		}
	}
}

func (g *guarded) forbidsPublish(user string, subjects ...string) {
	g.t.Helper()
	do := make(map[string]func(*nats.Conn) error)
	for _, subject := range subjects {
		do[`Publish to "`+subject+`"`] = func(nc *nats.Conn) error {
			return nc.PublishRequest(subject, messages.InboxPrefix(user)+".x", nil)
		}
	}
	g.forbids(user, do)
}

func (g *guarded) forbidsListen(user string, subjects ...string) {
	g.t.Helper()
	do := make(map[string]func(*nats.Conn) error)
	for _, subject := range subjects {
		do[`Subscription to "`+subject+`"`] = func(nc *nats.Conn) error {
			_, err := nc.SubscribeSync(subject)
			return err
		}
		do[`Subscription to "`+subject+`" using queue`] = func(nc *nats.Conn) error {
			_, err := nc.QueueSubscribeSync(subject, "q")
			return err
		}
	}
	g.forbids(user, do)
}
