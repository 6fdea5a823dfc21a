package natstest

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/testkit"
)

// Nodes are three servers with JetStream, a cluster. The last of them is far: what it sends the others, and they send it, goes over links
// that can be delayed and cut.
type Nodes struct {
	servers []*server.Server
	links   []*testkit.FaultProxy
}

// Cluster runs three until the test ends.
func Cluster(t testing.TB) *Nodes {
	t.Helper()
	const size, far = 3, 2
	n := new(Nodes)
	var routes []string
	var listeners []net.Listener
	for range size {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		routes = append(routes, listener.Addr().String())
		n.links = append(n.links, testkit.NewFaultProxy(t, routes[len(routes)-1]))
		listeners = append(listeners, listener) // until all have one: each keeps its port from the others
	}
	for _, listener := range listeners {
		_ = listener.Close()
	}
	for i, route := range routes {
		_, port, _ := net.SplitHostPort(route)
		number, err := strconv.Atoi(port)
		if err != nil {
			t.Fatal(err)
		}
		opts := &server.Options{
			ServerName: fmt.Sprintf("n%d", i), Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir(),
			// Who learns of a server by another one reaches it over its link, too.
			Cluster: server.ClusterOpts{Name: "c", Host: "127.0.0.1", Port: number, Advertise: n.links[i].Addr()},
		}
		for j, to := range routes {
			if i == far || j == far {
				to = n.links[j].Addr()
			}
			if i != j {
				opts.Routes = append(opts.Routes, &url.URL{Scheme: "nats", Host: to})
			}
		}
		s, err := server.NewServer(opts)
		if err != nil {
			t.Fatal(err)
		}
		n.servers = append(n.servers, s)
		t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	}
	for _, s := range n.servers {
		s.Start()
	}
	for _, s := range n.servers {
		if !s.ReadyForConnections(testkit.Patience) {
			t.Fatal("a server takes no connections")
		}
	}
	testkit.Eventually(t, "the servers have a leader", func() bool {
		return slices.ContainsFunc(n.servers, (*server.Server).JetStreamIsLeader)
	})
	return n
}

// URL is where clients reach a server: 0 and 1 are near each other, 2 is far.
func (n *Nodes) URL(i int) string { return n.servers[i].ClientURL() }

// Delay has what goes between the far server and the others take so long, each way.
func (n *Nodes) Delay(d time.Duration) {
	for _, link := range n.links {
		link.Delay(d)
	}
}

// Cut has the far server and the others not hear each other until Heal. Clients stay connected.
func (n *Nodes) Cut() {
	for _, link := range n.links {
		link.Cut()
	}
}

// Heal undoes Delay and Cut.
func (n *Nodes) Heal() {
	for _, link := range n.links {
		link.Heal()
	}
}

// LeadNear has a near server lead a stream: what is published near is not carried to the far one for the stream's sake.
func (n *Nodes) LeadNear(t testing.TB, nc *nats.Conn, stream string) {
	t.Helper()
	leads := func(s *server.Server) bool { return s.JetStreamIsStreamLeader(server.DEFAULT_GLOBAL_ACCOUNT, stream) }
	testkit.Eventually(t, "a near server leads "+stream, func() bool {
		if leads(n.servers[2]) {
			_, _ = nc.Request("$JS.API.STREAM.LEADER.STEPDOWN."+stream, nil, time.Second)
		}
		return slices.ContainsFunc(n.servers[:2], leads)
	})
}
