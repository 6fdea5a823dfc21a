package cli

import (
	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/internal/dns"
	"github.com/jetway-project/jetway/messages"
)

// dnsCmd is `jetway dns`.
type dnsCmd struct {
	natsFlags  `group:"NATS server:"`
	Listen     string   `default:":53" placeholder:"[HOST]:PORT" help:"Where to answer, UDP and TCP. Default: ${default}."`
	Name       string   `default:"${dns_name}" help:"Name of this DNS server (ns-…)."`
	Zone       []string `required:"" placeholder:"ZONE[=DOMAIN]" help:"Zone that is delegated to this server: _acme-challenge.DOMAIN, or another one that a CNAME record at _acme-challenge.DOMAIN leads to. Several, separated by commas."`
	Nameserver []string `required:"" placeholder:"HOST" help:"Hostnames that the zones are delegated to: this server's, and those of others like it."`
}

// Run is a DNS server until the command is stopped.
func (c *dnsCmd) Run(r *run) error {
	if err := messages.CheckDNSName(c.Name); err != nil {
		return badFlag("--name", err)
	}
	cfg := dns.Config{Name: c.Name, Listen: c.Listen, Nameservers: c.Nameserver, Log: r.log}
	for _, s := range c.Zone {
		zone, err := dns.ParseZone(s)
		if err != nil {
			return badFlag("--zone", err)
		}
		cfg.Zones = append(cfg.Zones, zone)
	}
	if err := cfg.Validate(); err != nil {
		return usagef("%v", err)
	}
	server, err := dns.New(cfg)
	if err != nil {
		return badFlag("--listen", err)
	}
	nc, err := c.connect(r, c.Name, "dns", server.BusGap)
	if err != nil {
		server.Close()
		return stopped(r, err)
	}
	defer bus.Drain(nc, drainTimeout)
	return stopped(r, server.Run(r.ctx, nc))
}
