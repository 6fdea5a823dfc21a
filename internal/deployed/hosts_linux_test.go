//go:build deploy

package deployed

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/testkit"
)

// fleet is Jetway on ten hosts.
type fleet struct {
	*network
	jetway, rooms   string
	bus, natsEnv    []string
	nats            [3]*host
	db, web, proxy  *host
	workers, drones [2]*host
}

const clusterOfHosts = "10.77.0.51:7470"

func newFleet(t *testing.T) *fleet {
	t.Helper()
	f := &fleet{network: newNetwork(t)}
	f.jetway, f.rooms = filepath.Join(f.dir, "bin", "jetway"), filepath.Join(f.dir, "bin")
	for _, name := range []string{"jetway", "room"} {
		if err := testkit.Build(t.Context(), filepath.Join(f.rooms, name), "github.com/jetway-project/jetway/cmd/"+name); err != nil {
			t.Fatal(err)
		}
	}
	authority := testkit.NewAuthority(t)
	routes, urls := []string{}, []string{}
	for i := range f.nats {
		f.nats[i] = f.host(fmt.Sprintf("nats%d", i+1), 11+i)
		routes, urls = append(routes, "nats://"+f.nats[i].addr+":6222"), append(urls, "nats://"+f.nats[i].addr+":4222")
	}
	route, _ := json.Marshal(routes)
	f.natsEnv = []string{"JETWAY_NATS_CA=" + authority.CA, "JETWAY_NATS_ROUTES=" + string(route)}
	f.natsEnv = append(f.natsEnv, busUsers(t, func(user, seed string) {
		if err := os.WriteFile(f.key(user), []byte(seed), 0o600); err != nil {
			t.Fatal(err)
		}
	})...)
	f.bus = []string{"--nats", strings.Join(urls, ","), "--tls-ca", authority.CA}
	certs := map[*host][2]string{}
	for _, h := range f.nats {
		cert, key := authority.Node(h.addr)
		certs[h] = [2]string{cert, key}
	}
	for _, h := range f.nats {
		f.startNATS(h, certs[h])
	}

	f.db = f.host("db", 21)
	f.postgres()
	f.web = f.host("web", 61)
	f.proxy = f.host("proxy", 51)
	for i := range 2 {
		f.workers[i] = f.host(fmt.Sprintf("worker%d", i+1), 31+i)
		f.drones[i] = f.host(fmt.Sprintf("drone%c", 'a'+i), 41+i)
		f.startWorker(i)
		f.startDrone(i)
	}
	f.startProxy()
	testkit.Eventually(t, "two drones are ready", func() bool {
		said, err := f.ask("operator", "drones")
		return err == nil && strings.Count(said, "ready") == 2
	})
	return f
}

func (f *fleet) key(user string) string { return filepath.Join(f.dir, user+".nk") }

func (f *fleet) dsn() string { return "postgres://postgres@" + f.db.addr + "/jetway" }

func (f *fleet) startNATS(h *host, cert [2]string) {
	h.start("nats", append(f.natsEnv, "JETWAY_NATS_NAME="+h.name, "JETWAY_NATS_STORE="+h.dir, "JETWAY_NATS_CERT="+cert[0], "JETWAY_NATS_KEY="+cert[1]),
		tool(f.t, "nats-server"), "--config", absolute(f.t, "../../deploy/nats/cluster.conf"))
}

func (f *fleet) restartNATS(i int) {
	old := f.nats[i].running["nats"]
	h := f.nats[i]
	env, args := old.Env, old.Args[5:]
	h.start("nats", env, args...)
}

func (f *fleet) role(h *host, user, role string, args ...string) {
	h.start(role, nil, append(append([]string{f.jetway, role, "--nkey", f.key(user)}, f.bus...), args...)...)
}

func (f *fleet) startWorker(i int) {
	f.role(f.workers[i], "worker", "worker", "--name", fmt.Sprintf("wo-%d", i+1), "--postgres", f.dsn(), "--default-cluster", clusterOfHosts, "--stream-replicas", "3", "--metrics-addr", ":9464")
}

func (f *fleet) startDrone(i int) {
	name := fmt.Sprintf("dr-%c", 'a'+i)
	f.role(f.drones[i], name, "drone", "--name", name, "--cluster", clusterOfHosts, "--process-root", f.rooms, "--ip", f.drones[i].addr, "--data-dir", filepath.Join(f.drones[i].dir, "data"))
}

func (f *fleet) startProxy() {
	f.role(f.proxy, "proxy", "proxy", "--listen", ":7470", "--name", "px-1")
}

// postgres is a server of its own on the host db.
func (f *fleet) postgres() {
	const bin = "/usr/lib/postgresql/15/bin/"
	as := []string{"setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups"}
	f.db.run("chown", "postgres", f.db.dir)
	data := filepath.Join(f.db.dir, "data")
	f.db.run(append(as, bin+"initdb", "-D", data, "-A", "trust")...)
	hba, err := os.OpenFile(filepath.Join(data, "pg_hba.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = hba.WriteString("host all all 10.77.0.0/24 trust\n")
		_ = hba.Close()
	}
	if err != nil {
		f.t.Fatal(err)
	}
	f.db.start("postgres", nil, append(as, bin+"postgres", "-D", data, "-c", "listen_addresses=*", "-c", "unix_socket_directories="+f.db.dir)...)
	testkit.Eventually(f.t, "Postgres is there", func() bool {
		return f.db.command(nil, "psql", "-h", f.db.addr, "-U", "postgres", "-c", "create database jetway").Run() == nil
	})
}

func absolute(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// ask runs a command on the web tier's host.
func (f *fleet) ask(user string, args ...string) (string, error) {
	said, err := f.web.command(nil, append(append([]string{f.jetway}, args...), append([]string{"--nkey", f.key(user), "--inbox-prefix", "_INBOX." + user}, f.bus...)...)...).Output()
	return string(said), err
}

type session struct {
	BackendID string `json:"backend_id"`
	URL       string `json:"url"`
	Drone     string `json:"drone"`
}

// connect asks as the web tier does, and again until it is granted.
func (f *fleet) connect(key string) (s session) {
	f.t.Helper()
	testkit.Eventually(f.t, "the connect to "+key+" is granted", func() bool {
		said, err := f.ask("web", "connect", "--no-wait", "--json", "--key", key, "--command", "room")
		return err == nil && json.NewDecoder(strings.NewReader(said)).Decode(&s) == nil
	})
	testkit.Eventually(f.t, key+" answers", func() bool { return strings.Contains(info(s.URL), s.BackendID) })
	return s
}

// visitor asks a session without a pause, and says how it went.
type visitor struct {
	asked, failed atomic.Int64
	longest       atomic.Int64 // milliseconds without a good answer
	stop, done    chan struct{}
}

func visit(url string) *visitor {
	v := &visitor{stop: make(chan struct{}), done: make(chan struct{})}
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{}}
	go func() {
		defer close(v.done)
		defer client.CloseIdleConnections()
		every := time.NewTicker(20 * time.Millisecond)
		defer every.Stop()
		good := time.Now()
		for {
			select {
			case <-v.stop:
				return
			case <-every.C:
			}
			v.asked.Add(1)
			resp, err := client.Get(url + "info")
			if err == nil {
				_ = resp.Body.Close()
			}
			if err == nil && resp.StatusCode == http.StatusOK {
				good = time.Now()
			} else {
				v.failed.Add(1)
			}
			v.longest.Store(max(v.longest.Load(), time.Since(good).Milliseconds()))
		}
	}()
	return v
}

func (v *visitor) String() string {
	close(v.stop)
	<-v.done
	return fmt.Sprintf("of %d requests of a visitor %d failed, the longest time without an answer was %d ms", v.asked.Load(), v.failed.Load(), v.longest.Load())
}

// The demand: several hosts, set up as deploy/README.md and deploy/nats say. Each role is upgraded, hosts are lost, the
// database is restored; a session ends only with its host, or when the database has never heard of it (I1, I6).
func TestSeveralHosts(t *testing.T) {
	if _, err := exec.LookPath("ip"); err != nil || os.Geteuid() != 0 {
		testkit.LeaveOut(t, "several hosts take root and iproute2", "install iproute2, and run make as root")
	}
	if !testkit.OwnNetwork(t) {
		return
	}
	f := newFleet(t)
	of := map[string]session{}
	for i := 0; len(of) < 2; i++ { // one on each drone
		s := f.connect(fmt.Sprintf("doc-%d", i))
		if _, ok := of[s.Drone]; !ok {
			of[s.Drone] = s
		}
	}
	a, b := of["dr-a"], of["dr-b"]
	same := func(what string) {
		t.Helper()
		testkit.Eventually(t, what+": the session goes on", func() bool { return strings.Contains(info(a.URL), a.BackendID) })
		f.connect("after " + what)
	}
	upgrade := func(what string, begin func()) {
		t.Helper()
		v := visit(a.URL)
		begin()
		same(what)
		t.Logf("%s: %s", what, v)
	}
	for i := range f.nats {
		upgrade(fmt.Sprintf("upgrade of NATS server %d", i+1), func() { f.restartNATS(i) })
	}
	for i := range f.workers {
		upgrade(fmt.Sprintf("upgrade of worker %d", i+1), func() { f.startWorker(i) })
	}
	upgrade("upgrade of drone a", func() { f.startDrone(0) })
	upgrade("upgrade of the only proxy", f.startProxy)

	upgrade("loss of NATS server 3's host", f.nats[2].lose)
	upgrade("loss of worker 2's host", f.workers[1].lose)

	// Until then it loses every other request, and what is shorter than that, as such leases are, may end by it.
	testkit.Eventually(t, "NATS has missed the lost worker", func() bool {
		for range 12 {
			if _, err := f.ask("operator", "drones"); err != nil {
				return false
			}
		}
		return true
	})
	f.db.run(f.jetway, "lease-ttl", "15s", "--postgres", f.dsn())
	// Until then a restored database is not believed for as long as leases lived before.
	testkit.Eventually(t, "no lease lives that was given before the time to live was lowered", func() bool {
		return f.db.run("psql", "-h", f.db.addr, "-U", "postgres", "-d", "jetway", "-Atc", "select longest_ttl_ms from setting") == "0"
	})
	dump := filepath.Join(f.db.dir, "dump")
	f.db.run("pg_dump", "-h", f.db.addr, "-U", "postgres", "-Fc", "-d", "jetway", "-f", dump)
	later := f.connect("after the backup")
	v, began := visit(a.URL), time.Now()
	f.db.run("pg_restore", "-h", f.db.addr, "-U", "postgres", "--clean", "--if-exists", "--single-transaction", "-d", "jetway", dump)
	testkit.Eventually(t, "what the backup does not know is ended", func() bool { return !strings.Contains(info(later.URL), later.BackendID) })
	t.Logf("restore: what the backup does not know ended after %s", time.Since(began).Round(time.Second))
	if again := f.connect("after the backup"); again.BackendID == later.BackendID {
		t.Error("the key leads to what was ended")
	}
	t.Logf("restore: such a key is given again after %s (leases live 15 s)", time.Since(began).Round(time.Second))
	same("restore")
	t.Logf("restore: %s", v)

	began = time.Now()
	f.drones[1].lose()
	testkit.Eventually(t, "the lost drone's session has ended", func() bool {
		said, err := f.ask("operator", "status", b.BackendID)
		return err == nil && strings.Contains(said, "terminated")
	})
	t.Logf("loss of a drone's host: its sessions ended after %s (leases live 15 s)", time.Since(began).Round(time.Second))
	same("loss of a drone's host")
}
