package cli

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/messages"
)

// answerDrones answers `jetway drones` on a server.
func answerDrones(t *testing.T, url string, opts ...nats.Option) {
	t.Helper()
	nc := natstest.Conn(t, url, opts...)
	_, err := nc.Subscribe(messages.SubjectDrones, func(m *nats.Msg) { _ = m.Respond(messages.Encode(messages.DronesResponse{})) })
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.FlushTimeout(testkit.Patience); err != nil {
		t.Fatal(err)
	}
}

// answered runs a command to a good end.
func answered(t *testing.T, args ...string) {
	t.Helper()
	if _, stderr, code := jetway(t, args...); code != ExitOK || stderr != "" {
		t.Errorf("jetway %v: exit code %d, %s", args, code, stderr)
	}
}

// refused runs a command to a bad end, with one line that says why and nothing secret.
func refused(t *testing.T, code int, why string, args ...string) {
	t.Helper()
	stdout, stderr, got := jetway(t, args...)
	if got != code || stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.HasPrefix(stderr, "jetway: ") || !strings.Contains(stderr, why) {
		t.Errorf("jetway %v: exit code %d, printed %q and %q, wanted %d and %q", args, got, stdout, stderr, code, why)
	}
	if strings.Contains(stderr, "s3cret") {
		t.Errorf("jetway %v shows a password: %s", args, stderr)
	}
}

func writeFile(t *testing.T, content string, mode os.FileMode) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, mode); err != nil {
		t.Fatal(err)
	}
	return file
}

// A server that wants a user and a password gets them from the URL, and they are
// shown nowhere.
func TestUserAndPasswordInTheURL(t *testing.T) {
	t.Parallel()
	url := natstest.Configured(t, &server.Options{Users: []*server.User{
		{Username: "all", Password: "s3cret"},
		{Username: "web", Password: "s3cret", Permissions: &server.Permissions{
			Publish:   &server.SubjectPermission{Allow: []string{messages.SubjectDrones}},
			Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX.web.>", messages.SubjectAnySleepEvent}},
		}},
	}})
	as := func(user string) string { return strings.Replace(url, "//", "//"+user+"@", 1) }
	answerDrones(t, as("all:s3cret"))
	answered(t, "drones", "--nats", as("web:s3cret"))
	refused(t, ExitFailed, "does not let us publish on jetway.ctl.backends (Forbidden): ", "backends", "--nats", as("web:s3cret"))
	refused(t, ExitFailed, "does not let us listen on _INBOX.operator.", "drones", "--nats", as("web:s3cret"), "--inbox-prefix", "_INBOX.operator")
	refused(t, ExitFailed, "does not let us listen on jetway.event.backend.*", "watch", "--nats", as("web:s3cret"))
	refused(t, ExitFailed, "does not let us in: nats: Authorization Violation (Unauthorized): give", "drones", "--nats", as("web:wrong-s3cret"))
	refused(t, ExitFailed, "does not let us in", "drones", "--nats", url)
	refused(t, ExitFailed, "does not let us in", "worker", "--nats", as("web:wrong-s3cret"), "--postgres", "host=nowhere.invalid", "--log-level", "error")
	refused(t, ExitUnavailable, "cannot reach NATS at nats://web:xxxxx@127.0.0.1:1", "drones", "--nats", "nats://web:s3cret@127.0.0.1:1")
	refused(t, ExitUsage, "--nats: is not a URL", "drones", "--nats", "nats://web:s3cret%@127.0.0.1")
	refused(t, ExitUsage, "--inbox-prefix: must be", "drones", "--nats", url, "--inbox-prefix", "_INBOX.*")
}

// What a role is refused while it runs is in its log, once it happens, and it goes on.
func TestRoleLogsWhatItIsRefused(t *testing.T) {
	t.Parallel()
	url := natstest.Configured(t, &server.Options{Users: []*server.User{{
		Username: "dr-a", Password: "s3cret", Permissions: &server.Permissions{
			Publish:   &server.SubjectPermission{Allow: []string{"jetway.drone.dr-a.heartbeat"}},
			Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX.dr-a.>"}},
		},
	}}})
	g := &guarded{t: t, url: strings.Replace(url, "//", "//dr-a:s3cret@", 1)}
	log := g.roleAs([]string{"--nats", g.url}, "drone", "--name", "dr-a", "--cluster", "a", "--runtime", "fake")
	log.await(t, `"msg":"the NATS server forbids this user what it needs[^}]*"subject":"jetway.drone.dr-a.register","operation":"publish"`)
	if strings.Contains(log.String(), "s3cret") {
		t.Errorf("the log shows the password:\n%s", log)
	}
}

// TLS: the server's certificate is checked by --tls-ca, and ours is shown.
func TestTLS(t *testing.T) {
	t.Parallel()
	ours, other := testkit.NewAuthority(t), testkit.NewAuthority(t)
	cert, key := ours.Server()
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pem, err := os.ReadFile(ours.CA)
	if err != nil || !pool.AppendCertsFromPEM(pem) {
		t.Fatal(err)
	}
	url := natstest.Configured(t, &server.Options{TLS: true, TLSVerify: true, TLSConfig: &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
	}})
	myCert, myKey := ours.Client("me")
	alienCert, alienKey := other.Client("alien")
	answerDrones(t, url, nats.RootCAs(ours.CA), nats.ClientCert(myCert, myKey))
	answered(t, "drones", "--nats", url, "--tls-ca", ours.CA, "--tls-cert", myCert, "--tls-key", myKey)
	const refusal = "refuses TLS with us: "
	for _, command := range [][]string{{"drones"}, {"proxy", "--listen", "127.0.0.1:0", "--log-level", "error"}} {
		flags := func(flags ...string) []string { return append(append(command, "--nats", url), flags...) }
		refused(t, ExitFailed, "is not to be trusted: x509: ", flags("--tls-cert", myCert, "--tls-key", myKey)...)
		refused(t, ExitFailed, "is not to be trusted: x509: ", flags("--tls-ca", other.CA)...)
		refused(t, ExitFailed, refusal, flags("--tls-ca", ours.CA)...)
		refused(t, ExitFailed, refusal, flags("--tls-ca", ours.CA, "--tls-cert", alienCert, "--tls-key", alienKey)...)
	}
	refused(t, ExitUsage, "does not match", "drones", "--nats", url, "--tls-cert", myCert, "--tls-key", alienKey)
	refused(t, ExitUsage, "--tls-cert and --tls-key: give both or none", "drones", "--tls-cert", myCert)
	refused(t, ExitUsage, "holds no certificate (usage): give", "drones", "--tls-ca", myKey)
	refused(t, ExitUsage, "there is no such file", "drones", "--tls-ca", ours.CA+"x")
	plain := natstest.Server(t).URL()
	refused(t, ExitFailed, "has no TLS", "drones", "--nats", strings.Replace(plain, "nats:", "tls:", 1), "--tls-ca", ours.CA)
}

// A file that is missing, empty, of another kind or open to everybody is refused
// before anything is sent, by what it is and what to do.
func TestFilesOfSecretsAreChecked(t *testing.T) {
	t.Parallel()
	seed, public := newNkey(t)
	seedText, err := os.ReadFile(seed)
	if err != nil {
		t.Fatal(err)
	}
	account, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	accountSeed, err := account.Seed()
	if err != nil {
		t.Fatal(err)
	}
	_, key := testkit.NewAuthority(t).Client("me")
	cert := strings.Replace(key, "-key", "", 1)
	open, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ why, flag, file string }{
		{"there is no such file (usage): make it", "--creds", filepath.Join(t.TempDir(), "none")},
		{"there is no such file (usage): make it", "--nkey", filepath.Join(t.TempDir(), "none")},
		{"is a directory (usage): name a file", "--creds", t.TempDir()},
		{"is a directory (usage): name a file", "--nkey", t.TempDir()},
		{"is open to others than its owner (mode 0644) (usage): chmod 600 it", "--nkey", writeFile(t, string(seedText), 0o644)},
		{"is open to others than its owner (mode 0604) (usage): chmod 600 it", "--creds", writeFile(t, "", 0o604)},
		{"holds no nkey seed", "--nkey", writeFile(t, "", 0o600)},
		{"holds no nkey seed", "--nkey", writeFile(t, public, 0o600)},
		{"holds the seed of something else than a user", "--nkey", writeFile(t, string(accountSeed), 0o600)},
		{"holds no user JWT (usage): ", "--creds", writeFile(t, "", 0o600)},
		{"holds no user JWT (usage): ", "--creds", writeFile(t, string(seedText), 0o600)},
		{"is open to others than its owner", "--tls-key", writeFile(t, string(open), 0o640|0o004)},
	} {
		args := []string{"drones", "--nats", "nats://127.0.0.1:1", c.flag, c.file}
		if c.flag == "--tls-key" {
			args = append(args, "--tls-cert", cert)
		}
		refused(t, ExitUsage, c.flag+" "+c.file+": "+c.why, args...)
	}
	refused(t, ExitUsage, "--creds and --nkey: give one of them", "drones", "--nkey", seed, "--creds", seed)
	group := writeFile(t, string(seedText), 0o640) // a group that the owner chose
	refused(t, ExitUnavailable, "cannot reach NATS", "drones", "--nats", "nats://127.0.0.1:1", "--nkey", group)
	refused(t, ExitFailed, "knows no nkeys", "drones", "--nats", natstest.Server(t).URL(), "--nkey", seed)
}

// Credentials files, by the permissions that README.md of deploy/nats gives for a
// signing key: the same for each drone, with its name in them.
func TestCredentialsFile(t *testing.T) {
	operator, account, system, signer := nkey(t, nkeys.CreateOperator), nkey(t, nkeys.CreateAccount), nkey(t, nkeys.CreateAccount), nkey(t, nkeys.CreateAccount)
	claims := jwt.NewAccountClaims(public(t, account))
	claims.Name = "JETWAY"
	scope := jwt.NewUserScope()
	scope.Key, scope.Role = public(t, signer), "drone"
	scope.Template.Pub.Allow.Add("jetway.drone.{{name()}}.*", "$JS.ACK.JETWAY_ACTIONS.{{name()}}.>", "jetway.log.*", "jetway.stats.*")
	scope.Template.Sub.Allow.Add("_INBOX.{{name()}}.>")
	claims.SigningKeys.AddScopedSigner(scope)
	resolver := &server.MemAccResolver{}
	for pair, c := range map[nkeys.KeyPair]*jwt.AccountClaims{account: claims, system: jwt.NewAccountClaims(public(t, system))} {
		token, err := c.Encode(operator)
		if err != nil {
			t.Fatal(err)
		}
		if err := resolver.Store(public(t, pair), token); err != nil {
			t.Fatal(err)
		}
	}
	operatorClaims := jwt.NewOperatorClaims(public(t, operator))
	operatorClaims.SystemAccount = public(t, system)
	url := natstest.Configured(t, &server.Options{
		TrustedOperators: []*jwt.OperatorClaims{operatorClaims}, SystemAccount: public(t, system), AccountResolver: resolver,
	})
	creds := func(name string, scoped bool) string {
		user := nkey(t, nkeys.CreateUser)
		c := jwt.NewUserClaims(public(t, user))
		c.Name, c.IssuerAccount = name, public(t, account)
		by := account
		if scoped {
			c.SetScoped(true)
			by = signer
		}
		token, err := c.Encode(by)
		if err != nil {
			t.Fatal(err)
		}
		seed, err := user.Seed()
		if err != nil {
			t.Fatal(err)
		}
		file, err := jwt.FormatUserConfig(token, seed)
		if err != nil {
			t.Fatal(err)
		}
		return writeFile(t, string(file), 0o600)
	}
	all, drone := creds("all", false), creds("dr-a", true)
	answerDrones(t, url, nats.UserCredentials(all))
	answered(t, "drones", "--nats", url, "--creds", all)
	refused(t, ExitFailed, "does not let us listen on _INBOX.operator.", "drones", "--nats", url, "--creds", drone)
	refused(t, ExitFailed, "does not let us publish on jetway.ctl.drones", "drones", "--nats", url, "--creds", drone, "--inbox-prefix", "_INBOX.dr-a")
	refused(t, ExitFailed, "does not let us in", "drones", "--nats", url)

	// By the environment, and by a context, whose user a flag replaces.
	t.Setenv("JETWAY_CREDS", all)
	answered(t, "drones", "--nats", url)
	t.Setenv("JETWAY_CREDS", "")
	home := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", home)
	for name, content := range map[string]string{
		"good": `"creds":"` + all + `"`, "bad": `"creds":"` + drone + `","inbox_prefix":"_INBOX.dr-a"`,
		"open": `"creds":"` + writeFile(t, "x", 0o644) + `"`, "user": `"user":"nobody","password":"s3cret"`,
	} {
		file := filepath.Join(home, "nats", "context", name+".json")
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(`{"url":"`+url+`",`+content+`}`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	answered(t, "drones", "--context", "good")
	answered(t, "drones", "--context", "user", "--creds", all)
	refused(t, ExitFailed, "does not let us publish on jetway.ctl.drones", "drones", "--context", "bad")
	refused(t, ExitFailed, "does not let us in", "drones", "--context", "user")
	refused(t, ExitUsage, "the creds of context open, ", "drones", "--context", "open")
}

func nkey(t *testing.T, create func() (nkeys.KeyPair, error)) nkeys.KeyPair {
	t.Helper()
	pair, err := create()
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

func public(t *testing.T, pair nkeys.KeyPair) string {
	t.Helper()
	key, err := pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}
