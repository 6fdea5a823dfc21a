package gateway

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/jetway-project/jetway/internal/metrics"
)

// DefaultMaxStreams is how many streams a gateway serves at once, unless it is told otherwise.
const DefaultMaxStreams = 20000

// DefaultRate is how many requests a second one token may make, where its line does not say.
const DefaultRate = 1000

// Config says where a gateway listens and whom it serves.
type Config struct {
	// Name is that of this gateway, gw-…. Required.
	Name string
	// Listener is where it is asked; Run closes it. Required.
	Listener net.Listener
	// TLS, if not nil, is spoken there.
	TLS *tls.Config
	// URL is where clients reach the gateway, for the status_url of a connect; made of the listener's address.
	URL string
	// TokensFile has who may ask for what; see [Tokens]. Without it and ForwardAuth the listener must be on the loopback.
	TokensFile string
	// ForwardAuth, if not "", is asked about each request instead, as in Plane.
	ForwardAuth string
	// PrivatePub has /pub ask for a token too. Plane leaves it open.
	PrivatePub bool
	// Rate is how many requests a second one token may make, where its line does not say; DefaultRate.
	Rate float64
	// MaxStreams is how many streams are served at once; DefaultMaxStreams. One asker has at most half of them.
	MaxStreams int
	// AccessLog logs every request when it has ended.
	AccessLog bool
	// Version is what the gateway says of itself.
	Version string
	// OnReady is called, if set, once when the gateway serves.
	OnReady func()
	// Metrics are what it counts, and serves on /metrics. Required.
	Metrics *metrics.Server
	Log     *slog.Logger

	waits waits
}

// waits are bounds in time; tests make them shorter or longer.
type waits struct {
	// read is for a head and its body, write for an answer once it is there, idle for the next request of a connection.
	read, write, idle time.Duration
	// comment is the pause after which a silent stream sends a comment.
	comment time.Duration
	// unsure is after how long a worker's word stands for events that have not come.
	unsure time.Duration
	// reload is the pause between two looks at the file of tokens.
	reload time.Duration
	drain  time.Duration
}

func (c *Config) setDefaults() error {
	c.Rate = cmp.Or(c.Rate, DefaultRate)
	c.MaxStreams = cmp.Or(c.MaxStreams, DefaultMaxStreams)
	c.Log = cmp.Or(c.Log, slog.Default())
	c.waits.read = cmp.Or(c.waits.read, 10*time.Second)
	c.waits.write = cmp.Or(c.waits.write, 10*time.Second)
	c.waits.idle = cmp.Or(c.waits.idle, 2*time.Minute)
	c.waits.comment = cmp.Or(c.waits.comment, 15*time.Second)
	c.waits.unsure = cmp.Or(c.waits.unsure, 2*time.Second)
	c.waits.reload = cmp.Or(c.waits.reload, 2*time.Second)
	c.waits.drain = cmp.Or(c.waits.drain, 5*time.Second)
	addr := c.Listener.Addr().String()
	if c.URL == "" {
		c.URL = "http://" + addr
		if c.TLS != nil {
			c.URL = "https://" + addr
		}
	}
	c.URL = strings.TrimSuffix(c.URL, "/")
	if u, err := url.Parse(c.URL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return fmt.Errorf("the URL %q must be http://… or https://…", c.URL)
	}
	switch {
	case c.TokensFile != "" && c.ForwardAuth != "":
		return errors.New("who may ask is said by a file of tokens or by another server: one of them")
	case c.TokensFile == "" && c.ForwardAuth == "" && !onLoopback(c.Listener.Addr()):
		return fmt.Errorf("%s can be reached from other machines, and without a file of tokens anybody there could start and end backends: make one with jetway gateway token, or listen on 127.0.0.1", addr)
	}
	if c.ForwardAuth != "" {
		if u, err := url.Parse(c.ForwardAuth); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return fmt.Errorf("%q must be http://… or https://…", c.ForwardAuth)
		}
	}
	return nil
}

func onLoopback(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// protocols are HTTP/1.1 and HTTP/2, also without TLS by prior knowledge, as Plane's.
func protocols() *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetHTTP2(true)
	p.SetUnencryptedHTTP2(true)
	return p
}
