package dns_test

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	miekg "github.com/miekg/dns"
	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/internal/dns"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/messages"
	"github.com/jetway-project/jetway/messages/client"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const zone = "_acme-challenge.rooms.example.com"

// start runs a server until the test ends, and waits until it listens to proxies. It
// waits for clients as long as a test does.
func start(t *testing.T, url string) *dns.Server {
	t.Helper()
	return startWith(t, url, testkit.Patience)
}

func startWith(t *testing.T, url string, tcpTimeout time.Duration) *dns.Server {
	t.Helper()
	z, err := dns.ParseZone(zone)
	if err != nil {
		t.Fatal(err)
	}
	s, err := dns.New(dns.Config{
		Name: "ns-a", Listen: "127.0.0.1:0", Zones: []dns.Zone{z}, Nameservers: []string{"ns1.example.com"}, Log: testkit.Logger(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	s.LimitTCP(tcpTimeout)
	asker := natstest.Conn(t, url)
	started, err := asker.SubscribeSync(messages.SubjectDNSStarted)
	if err != nil {
		t.Fatal(err)
	}
	if err := asker.Flush(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	nc, err := bus.Connect(ctx, bus.Config{URL: url, Name: "ns-a", OnReconnect: s.BusGap, Log: testkit.Logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		if err := s.Run(ctx, nc); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
		bus.Drain(nc, testkit.Patience)
	})
	if _, err := started.NextMsg(testkit.Patience); err != nil {
		t.Fatal("the server does not ask for values: ", err)
	}
	return s
}

func query(t *testing.T, network string, s *dns.Server) *miekg.Msg {
	t.Helper()
	r, err := tryQuery(t, network, s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func tryQuery(t *testing.T, network string, s *dns.Server) (*miekg.Msg, error) {
	t.Helper()
	q := new(miekg.Msg)
	q.SetQuestion(zone+".", miekg.TypeTXT)
	client := miekg.Client{Net: network, Timeout: testkit.Patience}
	r, _, err := client.ExchangeContext(t.Context(), q, s.Addr().String())
	return r, err
}

func present(t *testing.T, nc *nats.Conn, domain, value string) (messages.Presented, error) {
	t.Helper()
	return client.Request[messages.Presented](testkit.Context(t), nc, messages.SubjectDNSPresent, messages.Challenge{Domain: domain, Value: value})
}

// A proxy that was answered finds its value served, by UDP and TCP, until it removes it.
func TestValuesComeAndGoOverTheBus(t *testing.T) {
	t.Parallel()
	url := natstest.Server(t).URL()
	s := start(t, url)
	nc := natstest.Conn(t, url)
	for _, value := range []string{"V1", "V2"} {
		if by, err := present(t, nc, "rooms.example.com", value); err != nil || by.Server != "ns-a" {
			t.Fatal(by, err)
		}
		for _, network := range []string{"udp", "tcp"} {
			if r := query(t, network, s); !strings.Contains(r.String(), value) {
				t.Errorf("%s over %s is answered with %v", value, network, r)
			}
		}
	}
	if err := nc.Publish(messages.SubjectDNSRemove, messages.Encode(messages.Challenge{Domain: "rooms.example.com", Value: "V1"})); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the value is gone", func() bool {
		r, err := tryQuery(t, "tcp", s) // asked too often, the server does not answer
		return err == nil && len(r.Answer) == 1
	})
}

func TestBadValuesAreRefused(t *testing.T) {
	t.Parallel()
	url := natstest.Server(t).URL()
	s := start(t, url)
	nc := natstest.Conn(t, url)
	for _, c := range []struct {
		domain, value string
		kind          messages.Kind
	}{
		{"other.example.com", "V", messages.NotFound},
		{"rooms.example.com", "", messages.BadRequest},
		{"rooms.example.com", strings.Repeat("x", 300), messages.BadRequest},
		{"*.example.com", "V", messages.BadRequest},
	} {
		if _, err := present(t, nc, c.domain, c.value); messages.KindOf(err) != c.kind {
			t.Errorf("%+v: got %v", c, err)
		}
	}
	if r := query(t, "udp", s); len(r.Answer) != 0 {
		t.Errorf("got %v", r)
	}
}

// Nobody makes the server say something in its name where it means something.
func TestRepliesGoToNoSubjectThatIsARequest(t *testing.T) {
	t.Parallel()
	url := natstest.Server(t).URL()
	start(t, url)
	nc := natstest.Conn(t, url)
	heard, err := nc.SubscribeSync("jetway.ctl.>")
	if err != nil {
		t.Fatal(err)
	}
	payload := messages.Encode(messages.Challenge{Domain: "rooms.example.com", Value: "V"})
	if err := nc.PublishRequest(messages.SubjectDNSPresent, messages.SubjectDrain, payload); err != nil {
		t.Fatal(err)
	}
	if _, err := present(t, nc, "rooms.example.com", "V"); err != nil { // taken in after the other
		t.Fatal(err)
	}
	if n, _, _ := heard.Pending(); n > 0 {
		t.Error("the server replied to a request's subject")
	}
}

// Garbage, silence and half a query do not keep others from being answered, and end.
func TestI8BadClientsDoNotBlockOthers(t *testing.T) {
	t.Parallel()
	s := startWith(t, natstest.Server(t).URL(), 200*time.Millisecond)
	var silent []net.Conn
	for range 64 {
		conn, err := net.Dial("tcp", s.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		silent = append(silent, conn)
	}
	garbage, err := net.Dial("udp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer garbage.Close()
	for size := range 60 {
		if _, err := garbage.Write([]byte(strings.Repeat("\xc0\x0c", size))); err != nil {
			t.Fatal(err)
		}
	}
	query(t, "udp", s)
	// Of the silent ones, those past the limit of their network are closed at once, the others in time.
	for _, conn := range silent {
		_ = conn.SetReadDeadline(time.Now().Add(testkit.Patience))
		if n, err := conn.Read(make([]byte, 1)); err == nil || n > 0 || strings.Contains(err.Error(), "timeout") {
			t.Errorf("a silent connection is kept: %d bytes, %v", n, err)
		}
	}
	testkit.Eventually(t, "a query over TCP to be answered", func() bool {
		_, err := tryQuery(t, "tcp", s) // it may be too late for this server
		return err == nil
	})
}

// After a gap proxies are asked for what was missed; before there is a connection, nobody is.
func TestAsksForValuesAgainAfterABusGap(t *testing.T) {
	t.Parallel()
	url := natstest.Server(t).URL()
	s := start(t, url)
	nc := natstest.Conn(t, url)
	started, err := nc.SubscribeSync(messages.SubjectDNSStarted)
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.FlushTimeout(testkit.Patience); err != nil {
		t.Fatal(err)
	}
	s.BusGap()
	if msg, err := started.NextMsg(testkit.Patience); err != nil || !strings.Contains(string(msg.Data), "ns-a") {
		t.Fatal(msg, err)
	}
}

func TestConfigurationsThatCannotWorkAreRefused(t *testing.T) {
	t.Parallel()
	good := dns.Zone{Name: zone, Domain: "rooms.example.com"}
	for want, cfg := range map[string]dns.Config{
		"ns-":        {Name: "x", Zones: []dns.Zone{good}, Nameservers: []string{"ns1.example.com"}},
		"no zone":    {Name: "ns-a", Nameservers: []string{"ns1.example.com"}},
		"nameserver": {Name: "ns-a", Zones: []dns.Zone{good}},
		"hostname":   {Name: "ns-a", Zones: []dns.Zone{good}, Nameservers: []string{"127.0.0.1"}},
		"within":     {Name: "ns-a", Zones: []dns.Zone{{Name: "acme.example.com", Domain: "rooms.example.com"}}, Nameservers: []string{"ns.acme.example.com"}},
		"twice":      {Name: "ns-a", Zones: []dns.Zone{good, good}, Nameservers: []string{"ns1.example.com"}},
	} {
		cfg.Listen = "127.0.0.1:0"
		if s, err := dns.New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: got %v, %v", cfg, s, err)
		}
	}
}
