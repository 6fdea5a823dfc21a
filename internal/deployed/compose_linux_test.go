//go:build deploy

package deployed

import (
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/dockertest"
)

// postgresStandIn is built where no registry can be reached: it does what the official image does, as far as
// compose.yaml asks for it.
const postgresStandIn = `#!/bin/sh
set -e
bin=/usr/lib/postgresql/15/bin PGDATA=/var/lib/postgresql/data
mkdir -p $PGDATA && chown postgres $PGDATA && chmod 700 $PGDATA
if [ ! -e $PGDATA/PG_VERSION ]; then
	echo "$POSTGRES_PASSWORD" >/tmp/password
	setpriv --reuid postgres --regid postgres --clear-groups $bin/initdb -D $PGDATA -U "$POSTGRES_USER" --pwfile=/tmp/password -A scram-sha-256 >/dev/null
	echo "host all all all scram-sha-256" >>$PGDATA/pg_hba.conf
	echo "create database $POSTGRES_DB" | setpriv --reuid postgres --regid postgres --clear-groups $bin/postgres --single -D $PGDATA postgres
fi
exec setpriv --reuid postgres --regid postgres --clear-groups $bin/postgres -D $PGDATA -c listen_addresses='*' -c unix_socket_directories=/tmp
`

// composed is the stack of compose.yaml on an engine of its own.
type composed struct {
	t   *testing.T
	env []string
}

func newComposed(t *testing.T) *composed {
	t.Helper()
	engine := dockertest.NewEngine(t, "")
	c := &composed{t: t, env: append(os.Environ(), "DOCKER_HOST="+engine.Host, "DOCKER_BUILDKIT=0", "DOCKER_SOCKET="+strings.TrimPrefix(engine.Host, "unix://"))}
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("entry", postgresStandIn, 0o755)
	write("postgres", "FROM debian-stand-in\nCOPY entry /entry\nENTRYPOINT [\"/entry\"]\n", 0o644)
	write("nats", "FROM scratch\nCOPY nats-server /nats-server\nENTRYPOINT [\"/nats-server\"]\n", 0o644)
	c.run(dir, "cp", tool(t, "nats-server"), "nats-server")
	c.run(dir, "docker", "import", tool(t, "root.tar"), "debian-stand-in")
	c.run(dir, "docker", "build", "-q", "-f", "postgres", "-t", "postgres:17", ".")
	c.run(dir, "docker", "build", "-q", "-f", "nats", "-t", "nats:2.12", ".")
	c.run("../..", "make", "images", "ARCHS=amd64")
	return c
}

// run runs a program in a directory, which must succeed.
func (c *composed) run(dir, name string, args ...string) string {
	c.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = dir, c.env
	said, err := cmd.CombinedOutput()
	if err != nil {
		c.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, said)
	}
	return strings.TrimSpace(string(said))
}

func (c *composed) compose(args ...string) string {
	c.t.Helper()
	return c.run("../../deploy/compose", tool(c.t, "docker-compose"), args...)
}

// once keeps no connections.
var once = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// info is what a room says of itself.
func info(url string) string { return get(url + "info") }

func get(url string) string {
	resp, err := once.Get(url)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return string(text)
}

// The demand: one `docker compose up` leads to the shared room. An agent and a guard that are replaced, as an
// upgrade does, end no session, and the whole goes down with nothing left of it (I1, I6).
func TestComposeLeadsToTheSharedRoom(t *testing.T) {
	if !dockertest.Network(t) {
		return
	}
	c := newComposed(t)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(c.compose("logs", "--no-color", "--tail", "60"))
		}
	})
	c.compose("up", "-d")
	link := regexp.MustCompile(`http://localhost:7470/\S+/`)
	var url string
	testkit.Eventually(t, "the service room says where the room is", func() bool {
		url = link.FindString(c.compose("logs", "--no-color", "room"))
		return url != ""
	})
	said := info(url)
	if !strings.Contains(said, `"key":"lobby"`) {
		t.Fatalf("%s answers %q", url, said)
	}
	testkit.Eventually(t, "the gateway answers this machine", func() bool {
		return strings.Contains(get("http://127.0.0.1:9080/v1/drones"), "dr-compose")
	})
	pid := c.run(".", "docker", "ps", "-q", "--filter", "label=io.jetway.drone=dr-compose")

	c.compose("up", "-d", "--force-recreate", "--no-deps", "drone", "guard", "worker", "proxy")
	testkit.Eventually(t, "the session goes on under new agents", func() bool { return info(url) == said })
	if now := c.run(".", "docker", "ps", "-q", "--filter", "label=io.jetway.drone=dr-compose"); now != pid {
		t.Errorf("the session's container is %s, not %s", now, pid)
	}
	testkit.Eventually(t, "the drone takes more", func() bool {
		cmd := exec.Command(tool(t, "docker-compose"), "run", "--rm", "--no-deps", "-T", "room", "connect", "--key", "second", "--executable", `{"image":"jetway-room","pull_policy":"Never"}`)
		cmd.Dir, cmd.Env = "../../deploy/compose", c.env
		said, err := cmd.CombinedOutput()
		return err == nil && strings.Contains(info(link.FindString(string(said))), `"key":"second"`)
	})
}
