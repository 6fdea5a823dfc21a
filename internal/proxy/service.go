package proxy

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/micro"

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

// othersTimeout bounds how long a proxy waits for the word of others.
const othersTimeout = 2 * time.Second

// warnOfNamesakes says so, once of each, where another proxy has this one's name. Both work; but the workers take what they say of open
// connections for one proxy's. It looks again and again: one that is busy, or starts at the same moment, may not answer the first time.
func (p *Proxy) warnOfNamesakes(ctx context.Context, self *bus.Service) {
	again := time.NewTicker(p.cfg.waits.namesakes)
	defer again.Stop()
	said := map[string]bool{}
	for {
		for _, other := range p.namesakes(ctx, self.Info.ID) {
			if !said[other.ID] {
				said[other.ID] = true
				p.log.WarnContext(ctx, "another proxy has this one's name: workers, logs and lists do not tell them apart; give each its own --name",
					"listen", other.Metadata["listen"])
			}
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return
		}
	}
}

// namesakes are the other proxies of this one's name, by what they say of themselves. self is the id of this run.
func (p *Proxy) namesakes(ctx context.Context, self string) []micro.Stats {
	ctx, cancel := context.WithTimeout(ctx, othersTimeout)
	defer cancel()
	all, _ := bus.Roll(ctx, p.nc, micro.PingVerb, messages.ServiceProxies) // the connection says what is wrong
	return slices.DeleteFunc(all, func(s micro.Stats) bool { return s.ID == self || s.Metadata["proxy"] != p.cfg.Name })
}
