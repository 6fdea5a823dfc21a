package certs

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/internal/testkit/pebble"
)

func TestMain(m *testing.M) {
	if env := os.Getenv(otherEnv); env != "" {
		playOther(env)
	}
	testkit.Main(m)
}

// domains counts those given out: certmagic keeps what it knows of a name for the whole process.
var domains atomic.Int64

// newBus gives a NATS server with what workers make there.
func newBus(t *testing.T) (url string) {
	t.Helper()
	url = natstest.Server(t).URL()
	makeStreams(t, url)
	return url
}

func makeStreams(t *testing.T, url string) {
	t.Helper()
	js := natstest.JetStream(t, natstest.Conn(t, url))
	natstest.Insist(t, func() error { return bus.EnsureStreams(t.Context(), js, bus.Streams{}) })
}

// log keeps what is logged.
type log struct {
	mu  sync.Mutex
	buf bytes.Buffer
	t   *testing.T
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *log) await(what string) {
	l.t.Helper()
	testkit.Eventually(l.t, "the log says "+what, func() bool { return strings.Contains(l.String(), what) })
}

func newLog(t *testing.T) (*log, *slog.Logger) {
	t.Helper()
	l := &log{t: t}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(l.String())
		}
	})
	return l, slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// front is a listener for TLS, and one for plain HTTP, as a proxy has them.
type front struct {
	t          *testing.T
	domain     string
	tls, plain net.Listener
}

func newFront(t *testing.T) *front {
	t.Helper()
	f := &front{t: t, domain: fmt.Sprintf("rooms-%d.example.com", domains.Add(1))}
	for _, l := range []*net.Listener{&f.tls, &f.plain} {
		made, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = made.Close() })
		*l = made
	}
	return f
}

func (f *front) authority(delegated string) *pebble.Server {
	f.t.Helper()
	return pebble.Start(f.t, pebble.Config{
		HTTPPort: f.plain.Addr().(*net.TCPAddr).Port, TLSPort: f.tls.Addr().(*net.TCPAddr).Port, Delegated: delegated,
	})
}

// config asks the authority by a challenge.
func (f *front) config(ca *pebble.Server, challenge Challenge) Config {
	return Config{
		ACME:    &ACME{Domains: []string{f.domain}, Email: "ops@" + f.domain, Directory: ca.Directory(), Roots: ca.Roots, Challenge: challenge},
		TLSAddr: f.tls.Addr(), HTTP: f.plain,
		checkEvery: 100 * time.Millisecond,
	}
}

// serve keeps certificates and serves TLS with them until the test ends, or stop is called.
func (f *front) serve(url string, cfg Config) (k *Keeper, l *log, stop func()) {
	t := f.t
	t.Helper()
	l, logger := newLog(t)
	cfg.Log = logger
	k, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{
		Handler:   http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte(r.Proto)) }),
		TLSConfig: k.TLSConfig(), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0), ReadHeaderTimeout: testkit.Patience,
	}
	ctx, cancel := context.WithCancel(context.Background())
	var nc *nats.Conn
	if url != "" {
		if nc, err = bus.Connect(ctx, bus.Config{URL: url, Name: "px-test", Log: logger}); err != nil {
			t.Fatal(err)
		}
	}
	var running sync.WaitGroup
	running.Go(func() {
		if err := server.ServeTLS(f.tls, "", ""); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	running.Go(func() { k.Run(ctx, nc) })
	stop = sync.OnceFunc(func() {
		cancel()
		_ = server.Close()
		running.Wait()
		if nc != nil {
			bus.Drain(nc, testkit.Patience)
		}
	})
	t.Cleanup(stop)
	return k, l, stop
}

// leaf gives the certificate that is shown for a name, nil while there is none.
func (f *front) leaf(name string) *x509.Certificate {
	conn, err := tls.Dial("tcp", f.tls.Addr().String(), &tls.Config{ServerName: name, InsecureSkipVerify: true})
	if err != nil {
		return nil
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0]
}

// await waits until a certificate is shown for name that want likes.
func (f *front) await(name, what string, want func(*x509.Certificate) bool) *x509.Certificate {
	f.t.Helper()
	var leaf *x509.Certificate
	testkit.Eventually(f.t, what, func() bool {
		leaf = f.leaf(name)
		return leaf != nil && want(leaf)
	})
	return leaf
}

func anyOne(*x509.Certificate) bool { return true }

// trusted asks for a page as a browser does that trusts the authority.
func (f *front) trusted(roots *x509.CertPool, host string) string {
	f.t.Helper()
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, f.tls.Addr().String())
		},
	}
	defer transport.CloseIdleConnections()
	reply, err := (&http.Client{Transport: transport}).Get("https://" + host + "/")
	if err != nil {
		f.t.Fatal(err)
	}
	defer reply.Body.Close()
	return reply.Proto
}
