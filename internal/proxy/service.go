package proxy

import (
	"strconv"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/messages"
)

// service is what the proxy says of itself to who lists proxies. It has no endpoints: nobody asks a proxy for anything on the bus.
func (p *Proxy) service() *bus.Service {
	return bus.NewService(messages.ServiceProxies, "Leads browsers to session backends", p.cfg.Version, map[string]string{
		"proxy": p.cfg.Name, "version": p.cfg.Version,
		"listen":      p.cfg.Listener.Addr().String(),
		"tls":         strconv.FormatBool(p.cfg.TLS != nil),
		"embedded":    strconv.FormatBool(p.cfg.Embedded),
		"plain_paths": strconv.FormatBool(p.cfg.PlainPaths),
		"route_trust": p.cfg.RouteTrust.String(),
	})
}
