//go:build deploy

package deployed

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/testkit"
)

// debian is a machine with the package, Postgres and a NATS server of deploy/nats.
type debian struct {
	*machine
	env string // of client commands
}

// newDebian has no package yet, and what it is to be told for its roles.
func newDebian(t *testing.T) *debian {
	t.Helper()
	d := &debian{env: "NATS_URL=nats://localhost:4222 JETWAY_NKEY=/root/operator.nk JETWAY_TLS_CA=/etc/ssl/bus-ca.pem"}
	authority := testkit.NewAuthority(t)
	cert, key := authority.Server()
	debs, err := filepath.Glob(filepath.Join(tool(t, "debs"), "*.deb"))
	if err != nil || len(debs) != 2 {
		t.Fatalf("make deploy-test makes two packages, of which the later is an upgrade, not %v", debs)
	}
	server, err := os.ReadFile("../../deploy/nats/nats-server.conf")
	if err != nil {
		t.Fatal(err)
	}
	d.machine = newMachine(t, func(root string) {
		m := &machine{t: t, root: root}
		for i, deb := range slices.Sorted(slices.Values(debs)) {
			m.host("cp", deb, filepath.Join(root, "root", fmt.Sprintf("%d.deb", i+1)))
		}
		for from, to := range map[string]string{authority.CA: "etc/ssl/bus-ca.pem", cert: "etc/nats/server.pem", key: "etc/nats/server-key.pem"} {
			m.file(to, 0o644, read(t, from))
		}
		env := "JETWAY_NATS_STORE=/var/lib/nats\nJETWAY_NATS_CERT=/etc/nats/server.pem\nJETWAY_NATS_KEY=/etc/nats/server-key.pem\n"
		for _, variable := range busUsers(t, func(user, seed string) { m.file("root/"+user+".nk", 0o600, seed) }) {
			env += variable + "\n"
		}
		m.file("etc/nats/env", 0o600, env)
		m.file("etc/nats/nats-server.conf", 0o644, string(server))
		m.file("etc/systemd/system/nats-server.service", 0o644, "[Service]\nEnvironmentFile=/etc/nats/env\nExecStart=nats-server --config /etc/nats/nats-server.conf\n[Install]\nWantedBy=multi-user.target\n")
		m.file("etc/hostname", 0o644, "debian\n")
	})
	d.file("root/roles.sql", 0o644, "create role jetway login password 'secret';\ncreate database jetway owner jetway;\n")
	d.sh("systemctl enable --now nats-server && su postgres -c psql </root/roles.sql")
	return d
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// configure does what the comments of the package's files say.
func (d *debian) configure() {
	d.t.Helper()
	d.sh(`install -m 0640 -g jetway /root/worker.nk /root/proxy.nk /root/gateway.nk /etc/jetway/
install -m 0640 -g jetway-drone /root/dr-a.nk /etc/jetway/
for role in worker proxy gateway drone; do
	sed -i -e 's,^NATS_URL=.*,NATS_URL=nats://localhost:4222,' -e 's,^#\(JETWAY_NKEY=.*\),\1,' -e '$a JETWAY_TLS_CA=/etc/ssl/bus-ca.pem' \
		-e 's,^#JETWAY_POSTGRES=.*,JETWAY_POSTGRES=postgres://jetway:secret@127.0.0.1/jetway,' \
		-e 's,^#\(JETWAY_DEFAULT_CLUSTER\|JETWAY_CLUSTER\)=.*,\1=localhost:7470,' -e 's,^#\(JETWAY_TOKENS=.*\),\1,' /etc/jetway/$role.env
done
jetway gateway token ops --scope connect,read,operate --tokens /etc/jetway/tokens >/root/token && chgrp jetway /etc/jetway/tokens`)
}

// connect gives the backend of a key, and the process that is it.
func (d *debian) connect(key string) (backend, url, pid string) {
	d.t.Helper()
	var resp struct {
		BackendID string `json:"backend_id"`
		URL       string `json:"url"`
	}
	said := d.sh(d.env + " jetway connect --json --key " + key + " --command room")
	if err := json.NewDecoder(strings.NewReader(said)).Decode(&resp); err != nil {
		d.t.Fatalf("%v: %s", err, said)
	}
	testkit.Eventually(d.t, "the room of "+key+" answers", func() bool {
		text, ok := d.get(resp.URL + "info")
		return ok && strings.Contains(text, resp.BackendID)
	})
	return resp.BackendID, resp.URL, d.sh("pgrep -x room | while read p; do if grep -qz SESSION_BACKEND_ID=" + resp.BackendID + " /proc/$p/environ; then echo $p; fi; done")
}

// show is a property of a unit.
func (d *debian) show(unit, property string) string {
	return d.sh("systemctl show --value -p " + property + " " + unit)
}

// The demand: the Debian package, under a real systemd. It is installed, configured, started, connected to,
// restarted, upgraded, stopped, rebooted and removed; a session outlives what is no end of its machine (I1, I6).
func TestDebianPackage(t *testing.T) {
	d := newDebian(t)

	// Nothing is started or enabled by an installation, and who starts it unconfigured reads why it does not.
	d.sh("dpkg -i /root/1.deb")
	if got := d.sh("systemctl list-unit-files --no-legend 'jetway*' | awk '{print $2}' | sort -u"); got != "disabled" {
		t.Errorf("the units are %s", got)
	}
	if got := d.sh("systemctl list-units --no-legend 'jetway*'"); got != "" {
		t.Errorf("there runs %s", got)
	}
	d.sh("systemctl start jetway-worker || true")
	d.eventually("the worker has failed for good", "systemctl is-failed jetway-worker")
	if said := d.sh("journalctl -o cat -u jetway-worker"); !strings.Contains(said, "--postgres") {
		t.Errorf("an unconfigured worker says %s", said)
	}

	d.configure()
	d.sh("systemctl enable --now jetway-worker jetway-proxy jetway-gateway jetway-drone@a")
	d.eventually("the drone is ready", d.env+" jetway drones | grep -q 'dr-a.*ready'")
	backend, url, pid := d.connect("doc")
	alive := func(after string) {
		t.Helper()
		testkit.Eventually(t, "the session answers "+after, func() bool {
			text, ok := d.get(url + "info")
			return ok && strings.Contains(text, backend)
		})
		if got := d.sh("pgrep -x room"); got != pid {
			t.Fatalf("%s the session's process is %s, not %s", after, got, pid)
		}
	}

	token, asked := d.sh("cat /root/token"), "http://127.0.0.1:9080/v1/backends/"+backend
	testkit.Eventually(t, "the gateway answers who has a token", func() bool {
		text, ok := d.get(asked, "-H", "Authorization: Bearer "+token)
		return ok && strings.Contains(text, backend)
	})
	if text, ok := d.get(asked); ok {
		t.Errorf("without a token the gateway answers %s", text)
	}

	// Users, cgroups, and who tells systemd what.
	for _, unit := range []string{"jetway-drone@a", "jetway-guard@a"} {
		if user := d.sh("ps -o user:20= -p $(systemctl show --value -p MainPID " + unit + ")"); user != "jetway-drone" {
			t.Errorf("%s runs as %s", unit, user)
		}
		if got := d.show(unit, "Type") + d.show(unit, "StatusErrno"); got != "notify0" {
			t.Errorf("%s: %s", unit, got)
		}
	}
	if got := d.sh("cat /proc/" + pid + "/cgroup"); !strings.Contains(got, "jetway-drone@a.service/") || !strings.Contains(got, backend) {
		t.Errorf("the backend has no cgroup of its own below the unit's: %s", got)
	}
	if got := d.show("jetway-drone@a", "Delegate"); got != "yes" {
		t.Errorf("Delegate=%s", got)
	}
	if got := d.sh("stat -c '%a %U' /var/lib/jetway/dr-a /etc/jetway /etc/jetway/worker.env"); got != "700 jetway-drone\n755 root\n600 root" {
		t.Errorf("directories: %s", got)
	}

	d.sh("systemctl restart jetway-drone@a jetway-guard@a jetway-worker")
	alive("after a restart of drone, guard and worker")

	agent := d.show("jetway-drone@a", "MainPID")
	d.sh("kill -STOP " + agent)
	d.eventually("systemd has a hung agent replaced", "test $(systemctl show --value -p MainPID jetway-drone@a) != "+agent+" && systemctl is-active jetway-drone@a")
	alive("after the agent hung")

	worker, proxy, gateway := d.show("jetway-worker", "MainPID"), d.show("jetway-proxy", "MainPID"), d.show("jetway-gateway", "MainPID")
	agent = d.show("jetway-drone@a", "MainPID")
	d.sh("dpkg -i /root/2.deb")
	if d.show("jetway-worker", "MainPID") == worker || d.show("jetway-drone@a", "MainPID") == agent {
		t.Error("an upgrade leaves the old programs running")
	}
	if d.show("jetway-proxy", "MainPID") != proxy || d.show("jetway-gateway", "MainPID") != gateway {
		t.Error("an upgrade cuts visitors' connections, or streams of the gateway's clients")
	}
	d.sh("grep -q ^JETWAY_POSTGRES= /etc/jetway/worker.env")
	alive("after an upgrade")

	d.sh("JETWAY_POSTGRES=postgres://jetway:secret@127.0.0.1/jetway jetway lease-ttl 15s")
	// The guard, as the unit's user, ends what no agent comes back for.
	d.sh("systemctl stop jetway-drone@a && kill -0 " + pid)
	d.eventually("the guard has ended the backend past its lease", "! pgrep -x room")
	d.sh("systemctl start jetway-drone@a")
	d.eventually("the drone is ready again", d.env+" jetway drones | grep -q 'dr-a.*ready'")
	lost := backend
	if backend, url, pid = d.connect("doc"); backend == lost {
		t.Error("the key still leads to what the guard has ended")
	}

	d.reboot()
	d.eventually("the drone is back after a reboot", d.env+" jetway drones | grep -q 'dr-a.*ready'")
	d.eventually("what ran before the reboot has ended", d.env+" jetway status "+backend+" | grep -q terminated")
	lost = backend
	if backend, url, pid = d.connect("doc"); backend == lost {
		t.Error("the key still leads to what the reboot has ended")
	}
	alive("after the reboot")

	d.sh("dpkg -r jetway")
	if got, _ := d.try("sh", "-c", "pgrep -x room; pgrep -x jetway"); got != "" {
		t.Errorf("a removal leaves running: %s", got)
	}
	d.sh("test -s /etc/jetway/worker.env")
	d.sh("dpkg -P jetway && ! test -e /etc/jetway && ! test -e /var/lib/jetway")
	if got := d.sh("systemctl list-unit-files --no-legend 'jetway*'; ls /etc/systemd/system/multi-user.target.wants | grep jetway || true"); got != "" {
		t.Errorf("a purge leaves %s", got)
	}
}
