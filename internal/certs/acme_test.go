package certs

import (
	"context"
	"crypto/x509"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mholt/acmez/v3/acme"
	miekg "github.com/miekg/dns"
	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/internal/dns"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/messages"
)

// The authority checks on the plain listener, and the certificate is one that browsers
// take, with HTTP/2.
func TestHTTP01(t *testing.T) {
	t.Parallel()
	f := newFront(t)
	ca := f.authority("")
	k, _, _ := f.serve(newBus(t), f.config(ca, HTTP01))
	f.await(f.domain, "a certificate", anyOne)
	if proto := f.trusted(ca.Issuers(), f.domain); proto != "HTTP/2.0" {
		t.Errorf("served by %s", proto)
	}
	if got, failed := k.Orders(); got != 1 || failed != 0 || ca.Orders() != 1 {
		t.Errorf("%d certificates got, %d failures, %d orders", got, failed, ca.Orders())
	}
	if list := k.Certificates(); len(list) != 1 || list[0].Name != f.domain || time.Until(list[0].Until) < time.Hour {
		t.Errorf("in use: %+v", list)
	}
}

func TestTLSALPN01(t *testing.T) {
	t.Parallel()
	f := newFront(t)
	ca := f.authority("")
	cfg := f.config(ca, TLSALPN01)
	cfg.HTTP = nil
	f.serve(newBus(t), cfg)
	f.await(f.domain, "a certificate", anyOne)
	f.trusted(ca.Issuers(), f.domain)
	// Whoever does not say whom he wants, as checks of load balancers, gets the first.
	if leaf := f.await("", "a certificate for nobody", anyOne); leaf.VerifyHostname(f.domain) != nil {
		t.Errorf("got one for %v", leaf.DNSNames)
	}
}

// newDNS makes a DNS server for the domain, which runs from run until stop or the end of the test.
func newDNS(t *testing.T, domain, listen string) (s *dns.Server, run func(url string) (stop func())) {
	t.Helper()
	zone, err := dns.ParseZone("_acme-challenge." + domain)
	if err != nil {
		t.Fatal(err)
	}
	_, logger := newLog(t)
	s, err = dns.New(dns.Config{Name: "ns-test", Listen: listen, Zones: []dns.Zone{zone}, Nameservers: []string{"ns1.example.com"}, Log: logger})
	if err != nil {
		t.Fatal(err)
	}
	return s, func(url string) func() {
		ctx, cancel := context.WithCancel(context.Background())
		nc, err := bus.Connect(ctx, bus.Config{URL: url, Name: "ns-test", OnReconnect: s.BusGap, Log: logger})
		if err != nil {
			t.Fatal(err)
		}
		var running sync.WaitGroup
		running.Go(func() {
			if err := s.Run(ctx, nc); err != nil {
				t.Error(err)
			}
		})
		stop := sync.OnceFunc(func() {
			cancel()
			running.Wait()
			bus.Drain(nc, testkit.Patience)
		})
		t.Cleanup(stop)
		return stop
	}
}

// By the DNS come certificates for the subdomains too, answered by the DNS role: here
// with one that starts only when the proxy already waits for it.
func TestDNS01GetsTheWildcard(t *testing.T) {
	t.Parallel()
	f, url := newFront(t), newBus(t)
	server, run := newDNS(t, f.domain, "127.0.0.1:0")
	ca := f.authority(server.Addr().String())
	refused := make(chan struct{}, 100)
	another := natstest.Conn(t, url) // of other zones
	if _, err := another.Subscribe(messages.SubjectDNSPresent, func(msg *nats.Msg) {
		if msg.Reply == "" {
			return
		}
		no := nats.NewMsg(msg.Reply)
		no.Header.Set(messages.HeaderError, "not my zone")
		_ = another.PublishMsg(no)
		refused <- struct{}{}
	}); err != nil {
		t.Fatal(err)
	}
	if err := another.Flush(); err != nil {
		t.Fatal(err)
	}
	cfg := f.config(ca, DNS01)
	cfg.HTTP = nil
	_, l, _ := f.serve(url, cfg)
	testkit.Receive(t, refused, "the proxy to ask")
	run(url)
	for _, name := range []string{f.domain, "doc-1." + f.domain} {
		f.await(name, "a certificate for "+name, anyOne)
		f.trusted(ca.Issuers(), name)
	}
	if ca.Orders() != 2 {
		t.Errorf("%d orders", ca.Orders())
	}
	l.await("DNS servers answer a challenge")
	for _, name := range []string{"a.b." + f.domain, "example.com", "x" + f.domain} {
		if leaf := f.leaf(name); leaf != nil {
			t.Errorf("%s is shown %v", name, leaf.DNSNames)
		}
	}
}

// Whatever clients ask for, nothing is ordered but for the names that were given, and
// nobody's handshake or request makes the proxy ask the bus.
func TestI8NothingIsOrderedForOtherNames(t *testing.T) {
	t.Parallel()
	f, url := newFront(t), newBus(t)
	ca := f.authority("")
	f.serve(url, f.config(ca, HTTP01))
	f.await(f.domain, "a certificate", anyOne)
	listener := natstest.Conn(t, url)
	asked, err := listener.SubscribeSync("$JS.API.STREAM.MSG.GET.>")
	if err == nil {
		err = listener.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"evil.example.com", "doc." + f.domain, "example.com", "localhost", "*." + f.domain} {
		if leaf := f.leaf(name); leaf != nil {
			t.Errorf("%s is shown %v", name, leaf.DNSNames)
		}
		request, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+f.plain.Addr().String()+httpChallenge+"x", nil)
		request.Host = name
		reply, err := http.DefaultTransport.RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = reply.Body.Close()
		if reply.StatusCode == http.StatusOK {
			t.Errorf("%s has its challenge answered", name)
		}
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	if ca.Orders() != 1 {
		t.Errorf("%d orders", ca.Orders())
	}
	if err := listener.Flush(); err != nil {
		t.Fatal(err)
	}
	if n, _, _ := asked.Pending(); n > 0 {
		t.Errorf("the bus was asked %d times", n)
	}
}

// A certificate for shortLife is not due in a test's time, unless those that have no more
// than shortIsDue of their life left are: then it is in a second, and one for 90 days, as
// the authority gives by itself, in half an hour.
const (
	shortLife  = time.Hour
	shortIsDue = 0.9998
)

// Two proxies with the same name start at once: one orders, both have the certificate.
// When it is due, one of them renews it, once.
func TestProxiesShareCertificatesAndOneOfThemRenews(t *testing.T) {
	t.Parallel()
	a, b, url := newFront(t), newFront(t), newBus(t)
	b.domain = a.domain
	ca := a.authority("")
	both := func(change func(*Config)) (stop func()) {
		var stops []func()
		for _, f := range []*front{a, b} {
			cfg := f.config(ca, TLSALPN01)
			cfg.HTTP = nil
			change(&cfg)
			_, _, stop := f.serve(url, cfg)
			stops = append(stops, stop)
		}
		return func() {
			for _, stop := range stops {
				stop()
			}
		}
	}
	stop := both(func(cfg *Config) { cfg.life = shortLife })
	first := a.await(a.domain, "a certificate", anyOne)
	b.await(a.domain, "the same one", first.Equal)
	if ca.Orders() != 1 {
		t.Errorf("%d orders for one certificate", ca.Orders())
	}
	stop()

	for _, f := range []*front{a, b} {
		listener, err := net.Listen("tcp", f.tls.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = listener.Close() })
		f.tls = listener
	}
	both(func(cfg *Config) { cfg.renewAt = shortIsDue })
	second := a.await(a.domain, "a new certificate", func(c *x509.Certificate) bool { return !c.Equal(first) })
	b.await(a.domain, "the same new one", second.Equal)
	if time.Until(second.NotAfter) < time.Hour {
		t.Errorf("the new one ends at %s", second.NotAfter)
	}
	if ca.Orders() != 2 {
		t.Errorf("%d orders for two certificates", ca.Orders())
	}
}

// The authority is away when a proxy starts: the certificate that there is goes on, the
// log says so, and when the authority is back it is renewed.
func TestOldCertificateGoesOnWhileTheAuthorityIsAway(t *testing.T) {
	t.Parallel()
	f, url := newFront(t), newBus(t)
	ca := f.authority("")
	cfg := f.config(ca, TLSALPN01)
	cfg.HTTP = nil
	cfg.life = shortLife
	_, _, stop := f.serve(url, cfg)
	first := f.await(f.domain, "a certificate", anyOne)
	stop()
	ca.Down()
	listener, err := net.Listen("tcp", f.tls.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	f.tls = listener
	cfg.life, cfg.renewAt = 0, shortIsDue
	k, l, _ := f.serve(url, cfg)
	f.await(f.domain, "the old certificate", first.Equal)
	l.await("cannot renew a certificate, the old one goes on")
	if !strings.Contains(l.String(), "connection refused") {
		t.Error("the log does not say why")
	}
	if _, failed := k.Orders(); failed == 0 {
		t.Error("no failure is counted")
	}
	f.await(f.domain, "still the old certificate", first.Equal)
}

// Without any certificate the proxy says which it has not, and neither ends nor waits.
func TestNoCertificateYetIsSaid(t *testing.T) {
	t.Parallel()
	f := newFront(t)
	ca := f.authority("")
	ca.Down()
	cfg := f.config(ca, TLSALPN01)
	cfg.HTTP = nil
	_, l, _ := f.serve(newBus(t), cfg)
	l.await("cannot get a certificate: there is none for this name")
	if leaf := f.leaf(f.domain); leaf != nil {
		t.Errorf("shown %v", leaf.DNSNames)
	}
	if n := strings.Count(l.String(), "level=ERROR"); n != 1 {
		t.Errorf("%d errors in the log for one failure", n)
	}
}

// A proxy that starts before any worker has made the bucket waits for it, and then goes on.
func TestWaitsForTheBucket(t *testing.T) {
	t.Parallel()
	f, url := newFront(t), natstest.Server(t).URL()
	ca := f.authority("")
	_, l, _ := f.serve(url, f.config(ca, HTTP01))
	l.await("is a worker running?")
	makeStreams(t, url)
	f.await(f.domain, "a certificate", anyOne)
}

// Plain HTTP is answered with the way to https, as it was asked for.
func TestPlainHTTPLeadsToHTTPS(t *testing.T) {
	t.Parallel()
	cert, key := certFiles(t)
	f := newFront(t)
	k, _, _ := f.serve("", Config{CertFile: cert, KeyFile: key, HTTP: f.plain})
	for _, c := range []struct {
		method, host, path, want string
	}{
		{http.MethodGet, "rooms.example.com", "/t/a%2Fb?x=1", "https://rooms.example.com/t/a%2Fb?x=1"},
		{http.MethodPost, "rooms.example.com:80", "/", "https://rooms.example.com/"},
		{http.MethodGet, "rooms.example.com", httpChallenge + "x", "https://rooms.example.com" + httpChallenge + "x"},
		{http.MethodGet, "rooms.example.com", "//evil.example/", "https://rooms.example.com//evil.example/"},
		{http.MethodGet, "a b", "/", ""},
		{http.MethodGet, "evil.example/x", "/", ""},
		{http.MethodGet, "", "/", ""},
	} {
		r := httptest.NewRequest(c.method, c.path, nil)
		r.Host = c.host
		w := httptest.NewRecorder()
		k.ServeHTTP(w, r)
		if got := w.Header().Get("Location"); got != c.want || (w.Code == http.StatusPermanentRedirect) != (c.want != "") {
			t.Errorf("%+v: got %d %s", c, w.Code, got)
		}
	}
}

// A DNS server that is started anew in the middle of it is told again, by the proxy, what
// is open, and all of them are told when it is over.
func TestDNSServersThatStartAnewAreToldAgain(t *testing.T) {
	t.Parallel()
	url := newBus(t)
	_, logger := newLog(t)
	solver, err := newDNSSolver(natstest.Conn(t, url), logger)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { solver.run(ctx) })
	defer running.Wait()
	defer cancel()
	const domain = "anew.example.com"
	_, run := newDNS(t, domain, "127.0.0.1:0")
	stop := run(url)
	second, runSecond := newDNS(t, domain, "127.0.0.1:0")
	challenge := acme.Challenge{Identifier: acme.Identifier{Type: "dns", Value: domain}, KeyAuthorization: "k"}
	if err := solver.Present(ctx, challenge); err != nil {
		t.Fatal(err)
	}
	stop()
	runSecond(url)
	values := func() int {
		q := new(miekg.Msg)
		q.SetQuestion("_acme-challenge."+domain+".", miekg.TypeTXT)
		client := miekg.Client{Net: "tcp", Timeout: testkit.Patience}
		reply, _, err := client.ExchangeContext(ctx, q, second.Addr().String())
		if err != nil {
			return -1 // asked too often, it does not answer
		}
		return len(reply.Answer)
	}
	testkit.Eventually(t, "the new server answers", func() bool { return values() == 1 })
	if err := solver.CleanUp(ctx, challenge); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "it does no more", func() bool { return values() == 0 })
}
