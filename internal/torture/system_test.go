//go:build linux

package torture_test

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/dev/postgres"
	"github.com/jetway-project/jetway/internal/lease"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/pgtest"
)

const (
	cluster   = "torture.test"
	nodeCount = 3
	leaseTTL  = 15 * time.Second // the shortest: what waits for a lease's end is soon over
)

// system is all that is tortured.
type system struct {
	t     *testing.T
	dir   string
	start time.Time
	mark  string

	register *register
	pg       *postgres.Cluster
	audit    *audit
	pgClock  *databaseClock
	// pgPrograms is where Postgres' programs are.
	pgPrograms string

	nodes, workers, drones, proxies []*proc
	// routes lead to the nodes from each other, database from the workers to Postgres,
	// asking from the clients to the nodes.
	routes, database, asking []*testkit.FaultProxy
	nodeURLs                 []string // without a link
	proxyAddrs               []string
	disks                    []*disk // of the drones
	roles                    int
	machines                 atomic.Int64
	jetway                   string

	mu    sync.Mutex
	wrong []string
}

// fail notes what is wrong. What tests itself goes on to its end, for the report.
func (s *system) fail(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wrong = append(s.wrong, what)
}

func (s *system) failf(format string, args ...any) { s.fail(fmt.Sprintf(format, args...)) }

func (s *system) now() time.Duration { return time.Since(s.start) }

// newSystem starts everything and waits until it answers. env goes to all of Jetway's processes.
func newSystem(t *testing.T, dir, jetway string, env ...string) *system {
	t.Helper()
	s := &system{t: t, dir: dir, start: time.Now(), jetway: jetway}
	run := strconv.FormatUint(rand.Uint64(), 36)
	s.mark = "JETWAY_TORTURE_RUN=" + run
	env = append(env, s.mark)
	s.register = startRegister(t, s.start)
	s.pgClock = newDatabaseClock(t)
	s.pg = pgtest.OwnCluster(t, func(cfg *postgres.Config) { s.pgPrograms = cfg.Binaries.Dir }, s.pgClock.wrap)
	t.Cleanup(s.kill)
	s.startNodes()
	keys := filepath.Join(dir, "token-keys")
	if err := os.WriteFile(keys, []byte(lease.NewKey()), 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		link := testkit.NewFaultProxy(t, s.pg.TCPAddr())
		s.database = append(s.database, link)
		s.workers = append(s.workers, s.role(jetway, env, fmt.Sprintf("wo-%d", i+1), "worker",
			"--postgres", dsn(link.Addr()), "--default-cluster", cluster,
			"--lease-ttl", leaseTTL.String(), "--stream-replicas", "3", "--token-key-file", keys))
		s.begin(s.workers[i])
	}
	root := s.backends()
	for i := range 3 {
		name := fmt.Sprintf("dr-%s-%d", run, i+1) // one agent of a machine has it, whatever else runs there
		data := newDisk(t, filepath.Join(dir, name))
		s.disks = append(s.disks, data)
		s.drones = append(s.drones, s.role(jetway, env, name, "drone", "--cluster", cluster,
			"--process-root", root, "--data-dir", data.dir, "--grace", "1s", "--startup-timeout", "10s", "--max-backends", "4"))
		s.begin(s.drones[i])
	}
	for i := range 2 {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(freePort(t)))
		s.proxyAddrs = append(s.proxyAddrs, addr)
		s.proxies = append(s.proxies, s.role(jetway, env, fmt.Sprintf("px-%d", i+1), "proxy", "--listen", addr))
		s.begin(s.proxies[i])
	}
	for i := range s.nodeURLs {
		s.asking = append(s.asking, testkit.NewFaultProxy(t, strings.TrimPrefix(s.nodeURLs[i], "nats://")))
	}
	return s
}

func dsn(addr string) string {
	host, port, _ := net.SplitHostPort(addr)
	return fmt.Sprintf("host=%s port=%s user=jetway dbname=jetway sslmode=disable", host, port)
}

// role makes a process of Jetway with a link of its own to each NATS node.
func (s *system) role(jetway string, env []string, name, role string, args ...string) *proc {
	var urls []string
	s.roles++
	// Of no use but to a build with overlay.
	env = append(slices.Clone(env), clockEnv+"="+strconv.Itoa(s.roles))
	p := &proc{name: name, env: env, log: filepath.Join(s.dir, name+".log"), failed: s.fail}
	for _, node := range s.nodeURLs {
		link := testkit.NewFaultProxy(s.t, strings.TrimPrefix(node, "nats://"))
		p.links = append(p.links, link)
		urls = append(urls, "nats://"+link.Addr())
	}
	p.command = append([]string{jetway, role, "--name", name, "--nats", strings.Join(urls, ","), "--log-level", "debug"}, args...)
	return p
}

func (s *system) begin(p *proc) {
	s.t.Helper()
	if err := p.start(); err != nil {
		s.t.Fatal(err)
	}
}

// startNodes starts the NATS cluster: every node reaches every other through a link.
func (s *system) startNodes() {
	s.t.Helper()
	nodes := make([]natsNode, nodeCount)
	for i := range nodes {
		nodes[i] = natsNode{
			Name: fmt.Sprintf("n-%d", i+1), Port: freePort(s.t), Routing: freePort(s.t),
			StoreDir: filepath.Join(s.dir, fmt.Sprintf("n-%d", i+1)),
		}
		link := testkit.NewFaultProxy(s.t, fmt.Sprintf("127.0.0.1:%d", nodes[i].Routing))
		nodes[i].Reached = link.Addr()
		s.routes = append(s.routes, link)
	}
	for i, node := range nodes {
		for j, other := range nodes {
			if i != j {
				node.Others = append(node.Others, other.Reached)
			}
		}
		s.startNode(node, s.routes[i])
	}
}

// startNode starts a NATS node that others reach through links.
func (s *system) startNode(node natsNode, links ...*testkit.FaultProxy) {
	s.t.Helper()
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	config, err := json.Marshal(node)
	if err != nil {
		s.t.Fatal(err)
	}
	p := &proc{
		name: node.Name, command: []string{self}, env: []string{roleEnv + "=" + string(config), s.mark},
		log: node.StoreDir + ".out", links: links, failed: s.fail,
	}
	s.nodes = append(s.nodes, p)
	s.nodeURLs = append(s.nodeURLs, fmt.Sprintf("nats://127.0.0.1:%d", node.Port))
	s.begin(p)
}

// wipe is where a node keeps what it loses with its disk.
func (s *system) wipe(node *proc) error { return os.RemoveAll(filepath.Join(s.dir, node.name)) }

// backends gives a directory with the one program that the drones may run.
func (s *system) backends() string {
	s.t.Helper()
	root := filepath.Join(s.dir, "programs")
	self, err := os.Executable()
	if err == nil {
		err = os.MkdirAll(root, 0o755)
	}
	if err == nil {
		err = copyFile(filepath.Join(root, backendName), self)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return root
}

func copyFile(to, from string) error {
	if os.Link(from, to) == nil {
		return nil
	}
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(target, source)
	if closeErr := target.Close(); err == nil {
		err = closeErr
	}
	return err
}

// freePort is one below those that the system gives to whoever asks for any: nobody
// takes it while what listens there is being started again.
func freePort(t *testing.T) int {
	t.Helper()
	for range 100 {
		port := 20000 + rand.IntN(12000)
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			_ = l.Close()
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}

// all are the processes of the system, in the order in which they depend on each other.
func (s *system) all() []*proc {
	var all []*proc
	for _, group := range [][]*proc{s.nodes, s.workers, s.drones, s.proxies} {
		all = append(all, group...)
	}
	return all
}

func (s *system) links() []*testkit.FaultProxy {
	links := append(append(append([]*testkit.FaultProxy{}, s.routes...), s.database...), s.asking...)
	for _, p := range s.all() {
		links = append(links, p.links...)
	}
	return links
}

// kill leaves nothing behind, however the run ended.
func (s *system) kill() {
	for _, p := range s.all() {
		p.mu.Lock()
		p.wanted = false
		p.mu.Unlock()
		p.signal(syscall.SIGKILL)
	}
	testkit.Eventually(s.t, "all processes have ended", func() bool {
		left := s.processes()
		for pid := range left {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		return len(left) == 0
	})
	s.register.killAll()
}
