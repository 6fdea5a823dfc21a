package bus_test

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// farCluster gives a connection to each of three servers with JetStream. The last of them reaches the others, and is
// reached, over links that can be delayed.
func farCluster(t *testing.T) (near, far *server.Server, links []*testkit.FaultProxy) {
	t.Helper()
	servers, routes := make([]*server.Server, 3), make([]string, 3)
	for i := range routes {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		routes[i] = listener.Addr().String()
		_ = listener.Close()
		links = append(links, testkit.NewFaultProxy(t, routes[i]))
	}
	for i := range servers {
		_, port, _ := net.SplitHostPort(routes[i])
		number, _ := strconv.Atoi(port)
		opts := &server.Options{
			ServerName: fmt.Sprintf("n%d", i), Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir(),
			// Who learns of a server by another one goes over its link, too.
			Cluster: server.ClusterOpts{Name: "c", Host: "127.0.0.1", Port: number, Advertise: links[i].Addr()},
		}
		for j := range servers {
			to := routes[j]
			if i == 2 || j == 2 {
				to = links[j].Addr()
			}
			if i != j {
				opts.Routes = append(opts.Routes, &url.URL{Scheme: "nats", Host: to})
			}
		}
		s, err := server.NewServer(opts)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
		servers[i] = s
	}
	for _, s := range servers {
		s.Start()
	}
	for _, s := range servers {
		if !s.ReadyForConnections(testkit.Patience) {
			t.Fatal("a server takes no connections")
		}
	}
	testkit.Eventually(t, "the servers have a leader", func() bool { return slices.ContainsFunc(servers, (*server.Server).JetStreamIsLeader) })
	return servers[0], servers[2], links
}

// I5: what a worker knows, and neither the stream nor the subscription has, is given all the same: a replica that answers
// direct gets may lag behind, and an event pass before the subscription is known where it is published.
func TestI5WatchAsksAWorkerAlsoWhereTheStreamHasThePast(t *testing.T) {
	t.Parallel()
	url, nc, js := withStreams(t)
	var tr truth
	tr.set(messages.State{Status: messages.Ready})
	tr.serve(t, nc)
	publishStates(t, js, "b", messages.Scheduled, messages.Waiting)
	seen, end := watching(t, watchConn(t, url), "b")
	for _, want := range []messages.Status{messages.Scheduled, messages.Waiting, messages.Ready} {
		if got := testkit.Receive(t, seen, want.String()); got != want {
			t.Fatalf("it sees %s for %s", got, want)
		}
	}
	// When the event comes after all, it is none that was not seen.
	publishStates(t, js, "b", messages.Ready, messages.Terminated)
	expect(t, seen, messages.Terminated)
	expectEnd(t, seen, end)
}

// I5: who begins to watch at a server that lags behind misses nothing: neither what passed before its subscription was
// known where it was published, nor what the replica has not that answers its direct gets.
func TestI5WatchInAClusterWhoseServerLagsBehind(t *testing.T) {
	t.Parallel()
	near, far, links := farCluster(t)
	nc := watchConn(t, near.ClientURL())
	js := testkit.JetStream(t, nc)
	testkit.Eventually(t, "the streams are made", func() bool {
		return bus.EnsureStreams(t.Context(), js, bus.Streams{Replicas: 3, Actions: 8 << 20, Events: 8 << 20, Logs: 8 << 20}) == nil
	})
	testkit.Eventually(t, "a near server leads the stream", func() bool {
		info, err := js.Stream(t.Context(), messages.StreamEvents)
		if err == nil && info.CachedInfo().Cluster.Leader == "n2" {
			_, _ = nc.Request("$JS.API.STREAM.LEADER.STEPDOWN."+messages.StreamEvents, nil, time.Second)
		}
		return err == nil && info.CachedInfo().Cluster.Leader != "n2"
	})
	watchers := watchConn(t, far.ClientURL())
	var tr truth
	tr.set(messages.State{Status: messages.Waiting})
	tr.serve(t, nc)
	publishStates(t, js, "b", messages.Scheduled, messages.Waiting)
	// The far server has all of this, and knows who answers for states.
	testkit.Eventually(t, "the far server has the past", func() bool {
		events, err := bus.History(t.Context(), watchers, "b")
		return err == nil && len(events) == 2
	})
	for _, link := range links {
		link.Delay(2200 * time.Millisecond)
	}
	publishStates(t, js, "b", messages.Ready)
	tr.set(messages.State{Status: messages.Ready})
	seen, _ := watching(t, watchers, "b")
	for _, want := range []messages.Status{messages.Scheduled, messages.Waiting, messages.Ready} {
		if got := testkit.Receive(t, seen, want.String()); got != want {
			t.Fatalf("it sees %s for %s", got, want)
		}
	}
}
