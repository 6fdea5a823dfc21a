package dns

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/messages"
)

// Config says what the server answers for, and where.
type Config struct {
	// Name is ns-…. Required.
	Name string
	// Listen is [host]:port, for UDP and TCP alike. Port 0: any that is free.
	Listen string
	// Zones are what is delegated to this server; at least one.
	Zones []Zone
	// Nameservers are the hostnames by which the delegation leads here, those of other
	// servers for the same zones among them; at least one, and none within a zone.
	Nameservers []string
	// Log is where things are logged; slog.Default().
	Log *slog.Logger
}

// Validate says what is wrong with the configuration, or nil.
func (c *Config) Validate() error {
	if err := messages.CheckDNSName(c.Name); err != nil {
		return err
	}
	if len(c.Zones) == 0 {
		return errors.New("there is no zone to answer for")
	}
	if len(c.Nameservers) == 0 {
		return errors.New("there is no nameserver: name the hosts that the zones are delegated to")
	}
	seen := make(map[string]bool)
	for _, z := range c.Zones {
		if err := z.validate(); err != nil {
			return err
		}
		if seen[z.Name] {
			return fmt.Errorf("zone %q is given twice", z.Name)
		}
		seen[z.Name] = true
		for _, ns := range c.Nameservers {
			if checkHost(ns) != nil {
				return fmt.Errorf("nameserver %q must be a hostname", ns)
			}
			if ns == z.Name || strings.HasSuffix(ns, "."+z.Name) {
				return fmt.Errorf("nameserver %q must not be within zone %q: it would have no address", ns, z.Name)
			}
		}
	}
	return nil
}

// Server is one DNS server.
type Server struct {
	name  string
	zones zones
	limit *limiter
	log   *slog.Logger
	udp   *net.UDPConn
	tcp   net.Listener
	// patience is how long a client may take for a query over TCP, or to take its reply.
	patience time.Duration

	mu sync.Mutex
	nc *nats.Conn // once Run listens there
}

// New makes a server that has its sockets and answers nobody before [Server.Run].
func New(cfg Config) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Server{name: cfg.Name, zones: make(zones), limit: newLimiter(), patience: tcpTimeout, log: cmp.Or(cfg.Log, slog.Default()).With("dns", cfg.Name)}
	for _, z := range cfg.Zones {
		made := newZone(z, cfg.Nameservers)
		s.zones[made.apex] = made
	}
	return s, s.listen(cfg.Listen)
}

// listen takes one port for both protocols. Of free ones, several are tried: one may
// be free for UDP only.
func (s *Server) listen(address string) (err error) {
	for range 10 {
		var packets net.PacketConn
		if packets, err = net.ListenPacket("udp", address); err != nil {
			return err
		}
		s.udp = packets.(*net.UDPConn) // "udp" gives no other
		if s.tcp, err = net.Listen("tcp", s.udp.LocalAddr().String()); err == nil {
			return nil
		}
		_ = s.udp.Close()
		if _, port, _ := net.SplitHostPort(address); port != "0" {
			return err
		}
	}
	return err
}

// Addr is where the server listens.
func (s *Server) Addr() net.Addr { return s.tcp.Addr() }

// Close closes the sockets of a server that does not get to run.
func (s *Server) Close() {
	_ = s.udp.Close()
	_ = s.tcp.Close()
}

// BusGap says that values may have been missed: proxies are asked for theirs. For
// bus.Config.OnReconnect.
func (s *Server) BusGap() {
	s.mu.Lock()
	nc := s.nc
	s.mu.Unlock()
	if nc == nil {
		return
	}
	if err := nc.Publish(messages.SubjectDNSStarted, messages.Encode(messages.Presented{Server: s.name})); err != nil {
		s.log.Debug("cannot ask proxies for their values", "err", err)
	}
}

// Run answers until ctx ends, and returns when nothing is left. It is called once.
func (s *Server) Run(ctx context.Context, nc *nats.Conn) error {
	var serving sync.WaitGroup
	defer serving.Wait()
	defer s.Close()
	present, err := nc.Subscribe(messages.SubjectDNSPresent, s.present)
	if err != nil {
		return fmt.Errorf("subscribe to values: %w", err)
	}
	defer func() { _ = present.Unsubscribe() }()
	remove, err := nc.Subscribe(messages.SubjectDNSRemove, s.remove)
	if err != nil {
		return fmt.Errorf("subscribe to values: %w", err)
	}
	defer func() { _ = remove.Unsubscribe() }()
	s.mu.Lock()
	s.nc = nc
	s.mu.Unlock()
	serving.Go(func() { s.serveUDP(ctx) })
	serving.Go(func() { s.serveTCP(ctx) })
	// The server hears of the subscriptions before of this.
	s.BusGap()
	s.log.InfoContext(ctx, "serving", "address", s.Addr().String())
	<-ctx.Done()
	return nil
}

// present takes in a value, and says when it is answered.
func (s *Server) present(msg *nats.Msg) {
	challenge, err := messages.Decode[messages.Challenge](msg.Data)
	if err == nil {
		err = s.put(&challenge)
	}
	if msg.Reply == "" || !messages.MayReplyTo(msg.Reply) {
		return
	}
	reply := nats.NewMsg(msg.Reply)
	if err != nil {
		refusal := asRefusal(err)
		reply.Header.Set(messages.HeaderError, refusal.Message)
		reply.Header.Set(messages.HeaderErrorCode, refusal.CodeString())
		reply.Data = messages.Encode(refusal)
	} else {
		reply.Data = messages.Encode(messages.Presented{Server: s.name})
	}
	if err := msg.RespondMsg(reply); err != nil {
		s.log.Warn("cannot say that a value is served", "domain", challenge.Domain, "err", err)
	}
}

func (s *Server) put(c *messages.Challenge) error {
	found := s.zones.forDomain(c.Domain)
	if len(found) == 0 {
		return messages.Errorf(messages.NotFound, "%s has no zone for %s", s.name, c.Domain)
	}
	for _, z := range found {
		if err := z.present(c.Value); err != nil {
			return err
		}
	}
	s.log.Info("answering a challenge", "domain", c.Domain)
	return nil
}

func (s *Server) remove(msg *nats.Msg) {
	challenge, err := messages.Decode[messages.Challenge](msg.Data)
	if err != nil {
		s.log.Debug("message ignored", "subject", msg.Subject, "err", err)
		return
	}
	for _, z := range s.zones.forDomain(challenge.Domain) {
		z.remove(challenge.Value)
	}
}

func asRefusal(err error) *messages.Error {
	if refusal, ok := errors.AsType[*messages.Error](err); ok {
		return refusal
	}
	return messages.Errorf(messages.Internal, "%v", err)
}
