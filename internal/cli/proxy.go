package cli

import (
	"cmp"
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/internal/proxy"
	"github.com/jetway-project/jetway/messages"
)

// proxyCmd is `jetway proxy`.
type proxyCmd struct {
	natsFlags    `group:"NATS server:"`
	Listen       string        `default:":9090" placeholder:"[HOST]:PORT" help:"Where browsers connect. Default: ${default}."`
	Name         string        `default:"${proxy_name}" help:"Name of this proxy (px-…); no other may have it."`
	RootRedirect string        `placeholder:"URL" help:"Where / leads. Default: nowhere."`
	Embedded     bool          `help:"Let other sites' pages show sessions in origin mode in frames: the session's cookie is then SameSite=None and Partitioned, which needs https or localhost. Otherwise it is SameSite=Lax."`
	PlainPaths   bool          `help:"In path mode, pass on what backends say of their own root (Location, paths of cookies) as it is, as Plane does. Otherwise the proxy puts it below the token."`
	ReadyTimeout time.Duration `default:"60s" help:"How long a request waits for a backend that is being started."`
	RouteTrust   time.Duration `default:"${route_trust}" help:"How long the proxy uses a remembered route that no worker has confirmed; it asks for routes in use twice as often. Without NATS or workers, links answer 503 after that. It is 2s to ${max_route_trust}, well below the minute for which a drone leaves an ended backend's port unused: otherwise a link could lead to another backend. Default: ${default}."`
	DrainDelay   time.Duration `default:"2s" help:"How long the proxy still takes new requests after it is asked to end, while /ready says 503. Default: ${default}."`
	DrainTimeout time.Duration `default:"20s" help:"How long open requests and WebSockets may go on after that before they are cut. Default: ${default}."`
	IdleTimeout  time.Duration `default:"${idle_timeout}" help:"How long a client's connection may be idle. Behind a load balancer, set it to longer than the balancer keeps its own connections. Default: ${default}."`

	TrustedProxies       []string `placeholder:"CIDR" help:"Load balancers and proxies in front, as addresses or networks. The proxy believes what they say of their client's address and of https (X-Forwarded-For, X-Forwarded-Proto, Forwarded, and the PROXY protocol, version 1 and 2). Default: it believes nobody."`
	MaxClientConnections int      `placeholder:"N" help:"Most connections of one client (with IPv6: of one /64). Trusted proxies may have more. Default: a quarter of the files that the process may open."`

	AccessLog bool `help:"Log every request when it has ended."`
	metricsFlags
	certFlags `group:"https:"`
}

// proxyGCPercent is Go's own default, less than that of workers: what a proxy holds grows with idle connections, and
// its loops leave little to collect.
const proxyGCPercent = 100

// Run is a proxy until the command is stopped.
func (c *proxyCmd) Run(r *run) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(proxyGCPercent)
	}
	if err := messages.CheckProxyName(c.Name); err != nil {
		return badFlag("--name", err)
	}
	if c.ReadyTimeout <= 0 {
		return usagef("--ready-timeout: must be more than 0")
	}
	if c.RouteTrust < 2*time.Second || c.RouteTrust > proxy.MaxRouteTrust {
		return usagef("--route-trust: must be 2s to %s", proxy.MaxRouteTrust)
	}
	if c.IdleTimeout < time.Second {
		return usagef("--idle-timeout: must be at least 1s")
	}
	if c.MaxClientConnections < 0 {
		return usagef("--max-client-connections: must not be negative")
	}
	trusted, err := networks(c.TrustedProxies)
	if err != nil {
		return err
	}
	for flag, d := range map[string]time.Duration{"--drain-delay": c.DrainDelay, "--drain-timeout": c.DrainTimeout} {
		if d < 0 {
			return usagef("%s: must not be negative", flag)
		}
	}
	// The metrics are served before the connection is there, so that a proxy which waits for NATS is seen waiting.
	server, err := c.serveProxy(r)
	if err != nil {
		return err
	}
	defer server.Close()
	listener, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return badFlag("--listen", err)
	}
	keeper, err := c.keeper(r, listener)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	keeper.show(server.Proxy())
	px, err := proxy.New(proxy.Config{
		Name:         c.Name,
		Listener:     listener,
		TLS:          keeper.tls(),
		RootRedirect: c.RootRedirect,
		Embedded:     c.Embedded,
		PlainPaths:   c.PlainPaths,
		ReadyTimeout: c.ReadyTimeout,
		RouteTrust:   c.RouteTrust,
		DrainDelay:   c.DrainDelay,
		IdleTimeout:  c.IdleTimeout,

		TrustedProxies: trusted, MaxClientConnections: c.MaxClientConnections,
		DrainTimeout: cmp.Or(c.DrainTimeout, -1), // 0: cut at once
		AccessLog:    c.AccessLog,
		Version:      version(),
		Metrics:      server.Proxy(),
		Log:          r.log,
	})
	if err != nil {
		keeper.abandon()
		return errors.Join(badFlag("--root-redirect", err), listener.Close())
	}
	nc, err := c.connect(r, c.Name, "proxy", px.BusGap)
	if err != nil {
		keeper.abandon()
		_ = listener.Close()
		return stopped(r, err)
	}
	defer bus.Drain(nc, drainTimeout)
	defer keeper.start(r.ctx, nc)()
	return stopped(r, px.Run(r.ctx, nc))
}

// networks reads addresses and networks.
func networks(texts []string) (list []netip.Prefix, err error) {
	for _, text := range texts {
		text = strings.TrimSpace(text)
		if addr, err := netip.ParseAddr(text); err == nil {
			list = append(list, netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen()))
			continue
		}
		net, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, usagef("--trusted-proxies: must be addresses or networks like 10.0.0.0/8, separated by commas, not %q", text)
		}
		list = append(list, net.Masked())
	}
	return list, nil
}
