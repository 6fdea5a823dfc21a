package gateway_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/certs"
	"github.com/jetway-project/jetway/internal/gateway"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/pebble"
	"github.com/jetway-project/jetway/messages"
)

// over has the fixture ask by https, as one who trusts roots and speaks HTTP/2, or HTTP/1.1 alone.
func (f *fixture) over(host string, roots *x509.CertPool, two bool) *fixture {
	f.t.Helper()
	_, address, _ := strings.Cut(f.url, "://")
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!two)
	protocols.SetHTTP2(two)
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: host}, Protocols: protocols,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	}
	f.t.Cleanup(transport.CloseIdleConnections)
	other := *f
	other.url, other.http = "https://"+host, &http.Client{Transport: transport, CheckRedirect: f.http.CheckRedirect}
	return &other
}

// Over https, with certificates from files, a gateway does what it does without, by HTTP/1.1 and by HTTP/2.
func TestTheGatewayServesHTTPSFromFiles(t *testing.T) {
	t.Parallel()
	authority := testkit.NewAuthority(t)
	cert, key := authority.Server()
	keeper, err := certs.New(certs.Config{CertFile: cert, KeyFile: key})
	must(t, err)
	ca, err := os.ReadFile(authority.CA)
	must(t, err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	file, token := tokens(t, gateway.Token{Name: "ops", Scopes: all})
	w := startWithoutWorkers(t, "", func(c *gateway.Config) {
		c.TLS, c.TokensFile = keeper.TLSConfig(), file
	})
	who := bearer(token["ops"])
	for name, two := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		f := w.over("localhost", roots, two)
		want(t, f.ask("GET", "/healthz", ""), 200, "alive")
		login := f.ask("POST", "/login", "token="+token["ops"], "Content-Type", "application/x-www-form-urlencoded")
		if cookie := login.header.Get("Set-Cookie"); login.status != 303 || !strings.Contains(cookie, "Secure") {
			t.Errorf("%s: answered with %d, cookie %q", name, login.status, cookie)
		}
		backend := "tls-" + strings.ToLower(strings.NewReplacer("/", "", ".", "").Replace(name))
		var streams []*stream
		for _, path := range []string{"/pub/b/" + backend + "/status-stream", "/v1/events"} {
			s := f.open(path, who...)
			streams = append(streams, s)
			if s.resp.ProtoMajor == 2 != two {
				t.Errorf("%s: the stream is %s", name, s.resp.Proto)
			}
		}
		w.publish(backend, messages.Scheduled, messages.Terminated)
		for _, s := range streams { // before the next streams begin: the gateway has passed these events on then
			s.is(messages.Scheduled, messages.Terminated)
		}
	}
}

// is sees that a stream has states of one backend next.
func (s *stream) is(states ...messages.Status) {
	s.t.Helper()
	for _, want := range states {
		if e := s.next(); !strings.Contains(e.data, `"status":"`+want.String()+`"`) {
			s.t.Errorf("the stream has %s, wanted %s", e.data, want)
		}
	}
}

// deadlines remembers the bound that writes had last.
type deadlines struct {
	*httptest.ResponseRecorder
	last  time.Time
	times int
	sent  chan struct{} // one each time that something was sent
}

func (d *deadlines) Flush() {
	select {
	case d.sent <- struct{}{}:
	default:
	}
}

func (d *deadlines) SetWriteDeadline(t time.Time) error { d.last, d.times = t, d.times+1; return nil }
func (d *deadlines) SetReadDeadline(time.Time) error    { return nil }

// Over HTTP/2 the server resets a stream when the bound of a write is over, also where nothing is written then: a silent stream
// must have none.
func TestAStreamThatIsSilentHasNoBound(t *testing.T) {
	t.Parallel()
	w := startWithoutWorkers(t, "")
	w.publish("silent", messages.Scheduled)
	for _, path := range []string{"/pub/b/silent/status-stream", "/v1/events"} {
		ctx, leave := context.WithCancel(testkit.Context(t))
		r := w.request("GET", path, "", "Accept", "text/event-stream").WithContext(ctx)
		r.ProtoMajor, r.ProtoMinor = 2, 0
		d := &deadlines{ResponseRecorder: httptest.NewRecorder(), sent: make(chan struct{}, 1)}
		served := make(chan struct{})
		go func() { w.g.Handler().ServeHTTP(d, r); close(served) }()
		testkit.Receive(t, d.sent, "the head")
		leave()
		testkit.Receive(t, served, "the end of the stream")
		if d.times == 0 || !d.last.IsZero() || d.Body.Len() == 0 {
			t.Errorf("%s: after %d changes the bound is %s, sent is %q", path, d.times, d.last, d.Body)
		}
	}
}

// A gateway gets its certificate from an authority by ACME, on its own port, and clients that trust that authority are served.
func TestTheGatewayServesHTTPSByACME(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	ca := pebble.Start(t, pebble.Config{HTTPPort: plain.Addr().(*net.TCPAddr).Port, TLSPort: listener.Addr().(*net.TCPAddr).Port})
	host := fmt.Sprintf("gateway-%d.example.com", time.Now().UnixNano())
	keeper, err := certs.New(certs.Config{
		ACME:    &certs.ACME{Domains: []string{host}, Directory: ca.Directory(), Roots: ca.Roots, Challenge: certs.TLSALPN01},
		TLSAddr: listener.Addr(), HTTP: plain, Log: slog.New(slog.DiscardHandler),
	})
	must(t, err)
	file, token := tokens(t, gateway.Token{Name: "ops", Scopes: all})
	w := startWithoutWorkers(t, "", func(c *gateway.Config) {
		_ = c.Listener.Close()
		c.Listener, c.TLS, c.TokensFile = listener, keeper.TLSConfig(), file
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { keeper.Run(ctx, w.nc); close(ended) }()
	defer func() { cancel(); <-ended }()
	w.url = "https://" + listener.Addr().String()
	testkit.Eventually(t, "the certificate", func() bool {
		conn, err := tls.Dial("tcp", listener.Addr().String(), &tls.Config{ServerName: host, RootCAs: ca.Issuers()})
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	f := w.over(host, ca.Issuers(), true)
	want(t, f.ask("GET", "/healthz", ""), 200, "alive")
	want(t, f.ask("GET", "/v1/backends", "", bearer(token["ops"])...), 503, "no worker answers")
	want(t, f.ask("GET", "/v1/backends", ""), 401, "Unauthorized")
}
