package conformance_test

import (
	"context"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/internal/conformance"
	"github.com/jetway-project/jetway/internal/proxy"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
)

// The demand: our own proxy does all that the kit asks for.
func TestOurProxyPasses(t *testing.T) {
	t.Parallel()
	url := natstest.Server(t).URL()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ready := make(chan struct{})
	px, err := proxy.New(proxy.Config{
		Name: "px-ours", Listener: listener, DrainTimeout: -1, KeepaliveInterval: time.Second, RouteTrust: 2 * time.Second, LookupTimeout: time.Second,
		Version: "test", OnReady: func() { close(ready) }, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	nc, err := bus.Connect(t.Context(), bus.Config{URL: url, Name: "px-ours", OnReconnect: px.BusGap, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- px.Run(ctx, nc) }()
	t.Cleanup(func() {
		cancel()
		if err := testkit.Receive(t, ended, "the proxy ends"); err != nil {
			t.Error(err)
		}
		nc.Close()
	})
	testkit.Receive(t, ready, "the proxy is ready")

	said := map[string]bool{}
	err = conformance.Proxy{
		Name: "px-ours", URL: "http://" + listener.Addr().String(), Cluster: "jetway.test",
		Keepalive: testkit.Patience, Trust: testkit.Patience, Wait: testkit.Patience, // no test judges by how soon
		Say: func(r conformance.Result) {
			t.Logf("%s %s: %s", r.Verdict, r.Check, r.Why)
			said[r.Check] = true
			if r.Verdict != conformance.Pass {
				t.Errorf("%s (%s): %s: %s", r.Check, r.Says, r.Verdict, r.Why)
			}
		},
	}.Run(t.Context(), natstest.Conn(t, url))
	if err != nil {
		t.Fatal(err)
	}
	for _, check := range conformance.ProxyChecks() {
		if !said[check.ID] {
			t.Errorf("nothing was said of %s", check.ID)
		}
	}
}
