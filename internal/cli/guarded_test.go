package cli

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/jetway-project/jetway/internal/testkit"
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
	g.url = testkit.NATSConfigured(t, opts)
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
	key, err := nats.NkeyOptionFromSeed(g.seeds[user])
	if err != nil {
		g.t.Fatal(err)
	}
	forbidden = make(chan error, 64)
	nc = testkit.Conn(g.t, g.url, key, nats.RootCAs(g.ca), nats.CustomInboxPrefix(messages.InboxPrefix(user)),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { forbidden <- err }))
	return nc, forbidden
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

func (g *guarded) forbids(user, what string, do func(nc *nats.Conn) error) {
	g.t.Helper()
	nc, forbidden := g.conn(user) // a fresh one, whose last error is this one's
	if verdict(g.t, nc, forbidden, func() error { return do(nc) }) {
		g.t.Errorf("%s may %s", user, what)
	}
	nc.Close()
}

func (g *guarded) forbidsPublish(user string, subjects ...string) {
	g.t.Helper()
	for _, subject := range subjects {
		g.forbids(user, "publish on "+subject, func(nc *nats.Conn) error {
			return nc.PublishRequest(subject, messages.InboxPrefix(user)+".x", nil)
		})
	}
}

func (g *guarded) forbidsListen(user string, subjects ...string) {
	g.t.Helper()
	for _, subject := range subjects {
		g.forbids(user, "listen on "+subject, func(nc *nats.Conn) error {
			_, err := nc.SubscribeSync(subject)
			return err
		})
		g.forbids(user, "share listening on "+subject, func(nc *nats.Conn) error {
			_, err := nc.QueueSubscribeSync(subject, "q")
			return err
		})
	}
}
