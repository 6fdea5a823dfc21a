package proxy

import (
	"context"
	"errors"
	"net"
	"net/http"

	"github.com/jetway-project/jetway/internal/metrics"
)

var (
	errDraining = errors.New("draining: the proxy is to end")
	errNoWorker = errors.New("no worker can be reached")
)

// show has the metrics read this proxy.
func (p *Proxy) show() {
	p.metrics.Show(metrics.ProxySource{
		Name: p.cfg.Name, Version: p.cfg.Version, Now: p.snapshot,
		Ready: func(context.Context) error { return p.unready() },
	})
}

// unready says why browsers should be sent elsewhere, or nil.
func (p *Proxy) unready() error {
	switch {
	case p.draining.Load():
		return errDraining
	case !p.reachesWorker():
		return errNoWorker
	}
	return nil
}

func (p *Proxy) snapshot() metrics.ProxySnapshot {
	return metrics.ProxySnapshot{
		Connections: int(p.clients.Load()),
		Requests:    p.gate.count(),
		Held:        p.held.count(),
		Upgraded:    int(p.upgrades.Load()),
		Routes:      p.routes.count(),
		Connected:   p.nc.IsConnected(),
		Reconnects:  p.nc.Stats().Reconnects,
	}
}

// countClients is told of each connection of the HTTP server that comes, goes, or is
// upgraded and so no longer the server's.
func (p *Proxy) countClients(conn net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		p.clients.Add(1)
	case http.StateClosed:
		p.clients.Add(-1)
		p.door.leave(conn)
	case http.StateHijacked: // whoever has it tells the door
		p.clients.Add(-1)
	case http.StateActive, http.StateIdle:
	}
}
