package proxy

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"time"

	"github.com/jetway-project/jetway/internal/boottime"
	"github.com/jetway-project/jetway/internal/metrics"
	"github.com/jetway-project/jetway/messages"
)

// DefaultRouteTrust is a third of the time for which ports rest, and MaxRouteTrust what is still well below it.
const (
	DefaultRouteTrust = 20 * time.Second
	MaxRouteTrust     = 40 * time.Second
)

// DefaultIdleTimeout is how long a client's connection may be idle.
const DefaultIdleTimeout = 2 * time.Minute

// Config says who the proxy is and where it listens. A field left zero gets its default.
type Config struct {
	// Name is px-… and part of the subjects on which the proxy asks. Required.
	Name string
	// Listener is where browsers connect. Required. Run closes it.
	Listener net.Listener
	// TLS, if set, is what browsers are met with: HTTP/2 and HTTP/1.1 over TLS. nil:
	// plain HTTP/1.1. The certificates in it are the caller's.
	TLS *tls.Config
	// RootRedirect is where / leads who shows no session's token; "": / is refused.
	RootRedirect string
	// Embedded lets sessions that have hosts of their own stand in frames of other sites' pages.
	Embedded bool
	// PlainPaths passes on what backends say of their own root as it is where the token is in the path, as Plane does.
	PlainPaths bool

	// ReadyTimeout is how long a request waits for a backend to get ready; 60 s.
	ReadyTimeout time.Duration
	// LookupTimeout is how long a worker may take to say where a token leads; 5 s.
	LookupTimeout time.Duration
	// DialTimeout is how long connecting to a backend may take; 5 s.
	DialTimeout time.Duration
	// DrainDelay is how long new requests are still served when Run is to end, while
	// /ready already says 503; 0: not at all.
	DrainDelay time.Duration
	// DrainTimeout is how long what is open after that may go on; then
	// it is cut. 5 s; negative: cut at once.
	DrainTimeout time.Duration
	// KeepaliveInterval is how often workers are told who is connected; 10 s. Who comes
	// between is told at once. Workers that sweep count on 10 s at most.
	KeepaliveInterval time.Duration
	// RouteTrust is for how long a remembered route is used without a worker's word, by the clock that also counts
	// while the machine is suspended; 20 s. It must lie well below the minute for which ports rest: beyond it, the
	// backend's address may be another's.
	RouteTrust time.Duration
	// RouteBytes bounds the remembered routes; 64 MiB, some 100,000 routes
	// without much auth data.
	RouteBytes int

	// TrustedProxies are those whose word is taken on who their client is, and whether it came by https: X-Forwarded-For,
	// X-Forwarded-Proto and Forwarded, and the PROXY protocol.
	TrustedProxies []netip.Prefix
	// MaxClientConnections is the most connections that one client has, trusted proxies excepted; a quarter of the
	// files that this process may open.
	MaxClientConnections int
	// IdleTimeout is how long a client's connection may be idle; 2 min.
	IdleTimeout time.Duration
	// MaxHeld is the most requests that wait for backends to get ready; 8192.
	MaxHeld int

	// AccessLog has every request logged when it has ended, at info.
	AccessLog bool
	// Version is what the metrics say.
	Version string
	// Metrics are what the proxy counts and shows itself through; nil: nowhere.
	Metrics *metrics.Proxy
	// OnReady is called once, if set, when requests are served.
	OnReady func()
	// Log is where refusals are logged; slog.Default().
	Log *slog.Logger

	waits waits          // usualWaits
	clock boottime.Clock // boottime.Now
}

func (c *Config) setDefaults() {
	c.ReadyTimeout = cmp.Or(c.ReadyTimeout, 60*time.Second)
	c.LookupTimeout = cmp.Or(c.LookupTimeout, 5*time.Second)
	c.DialTimeout = cmp.Or(c.DialTimeout, 5*time.Second)
	c.DrainTimeout = cmp.Or(c.DrainTimeout, 5*time.Second)
	c.KeepaliveInterval = cmp.Or(c.KeepaliveInterval, 10*time.Second)
	c.RouteTrust = cmp.Or(c.RouteTrust, DefaultRouteTrust)
	c.RouteBytes = cmp.Or(c.RouteBytes, 64<<20)
	c.MaxClientConnections = cmp.Or(c.MaxClientConnections, max(descriptors()/4, leastConnections))
	c.IdleTimeout = cmp.Or(c.IdleTimeout, DefaultIdleTimeout)
	c.MaxHeld = cmp.Or(c.MaxHeld, 8192)
	c.waits = cmp.Or(c.waits, usualWaits)
	c.Log = cmp.Or(c.Log, slog.Default())
	if c.clock == nil {
		c.clock = boottime.Now
	}
	if c.Metrics == nil {
		c.Metrics = metrics.NewProxy(nil)
	}
	if c.OnReady == nil {
		c.OnReady = func() {}
	}
}

// Validate says what is wrong with the configuration, or nil.
func (c *Config) Validate() error {
	if err := messages.CheckProxyName(c.Name); err != nil {
		return fmt.Errorf("proxy name %q: %w", c.Name, err)
	}
	if c.Listener == nil {
		return errors.New("proxy: no listener")
	}
	if c.RootRedirect != "" {
		if to, err := url.Parse(c.RootRedirect); err != nil || to.Host == "" || (to.Scheme != "http" && to.Scheme != "https") {
			return fmt.Errorf("proxy: the root redirect %q is not an http(s) URL", c.RootRedirect)
		}
	}
	for name, d := range map[string]time.Duration{
		"ready timeout": c.ReadyTimeout, "lookup timeout": c.LookupTimeout,
		"route trust": c.RouteTrust, "idle timeout": c.IdleTimeout, "dial timeout": c.DialTimeout, "keepalive interval": c.KeepaliveInterval, "drain delay": c.DrainDelay,
	} {
		if d < 0 {
			return fmt.Errorf("proxy: the %s %v is negative", name, d)
		}
	}
	if c.RouteBytes < 0 {
		return fmt.Errorf("proxy: %d bytes for routes is negative", c.RouteBytes)
	}
	if c.MaxClientConnections < 0 {
		return fmt.Errorf("proxy: %d connections of a client is negative", c.MaxClientConnections)
	}
	if c.MaxHeld < 0 {
		return fmt.Errorf("proxy: %d requests that wait is negative", c.MaxHeld)
	}
	return nil
}
