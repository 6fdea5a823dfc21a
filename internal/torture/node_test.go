//go:build linux

package torture_test

import (
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"github.com/nats-io/nats-server/v2/server"
)

// natsNode is a node of the NATS cluster, a process of its own.
type natsNode struct {
	Name     string
	Port     int
	Routing  int      // 0: it is alone
	Reached  string   // where other nodes reach it: through a link that fails
	Others   []string // where it reaches the other nodes
	StoreDir string
}

// playNATS is a node. It does not return.
func playNATS(node natsNode) {
	opts := &server.Options{
		ServerName: node.Name, Host: "127.0.0.1", Port: node.Port,
		JetStream: true, StoreDir: node.StoreDir,
		NoSigs: true, LogFile: node.StoreDir + ".log", Logtime: true,
	}
	if node.Routing != 0 {
		opts.Cluster = server.ClusterOpts{
			Name: "torture", Host: "127.0.0.1", Port: node.Routing, Advertise: node.Reached,
			NoAdvertise: true, // clients keep to their own links
		}
	}
	for _, other := range node.Others {
		opts.Routes = append(opts.Routes, &url.URL{Scheme: "nats", Host: other})
	}
	s, err := server.NewServer(opts)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	s.ConfigureLogger()
	s.Start()
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	<-stop
	s.Shutdown()
	s.WaitForShutdown()
	os.Exit(0)
}
