package proxy

import (
	"context"
	"log/slog"
	"net"
	"testing"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/internal/testkit"
)

// The demand: a second proxy of a name says so, and who the first one is; proxies of other names are none of its concern. Workers take both for one.
func TestSecondProxyOfANameSaysSo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	var said logLines
	cfg := Config{Name: "px-test", Listener: listener, DrainTimeout: -1, Log: slog.New(slog.NewTextHandler(&said, nil))}
	cfg.BePatient()
	second, err := New(cfg)
	must(t, err)
	nc, err := bus.Connect(t.Context(), bus.Config{URL: "nats://" + w.link.Addr(), Name: cfg.Name, Log: slog.New(slog.DiscardHandler)})
	must(t, err)
	defer nc.Close()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- second.Run(ctx, nc) }()
	testkit.Eventually(t, "its log says so", func() bool {
		return said.contains("another proxy has this one's name") && said.contains("listen="+w.addr)
	})
	testkit.Eventually(t, "of the name are two", func() bool { return len(second.namesakes(ctx, "")) == 2 })
	cancel()
	must(t, testkit.Receive(t, ended, "it ends"))
	second.cfg.Name = "px-other"
	if others := second.namesakes(t.Context(), ""); len(others) != 0 {
		t.Errorf("px-other is the name of %+v", others)
	}
}
