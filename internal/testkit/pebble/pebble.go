// Package pebble is a certificate authority for tests: Let's Encrypt's own pebble,
// which checks challenges as the real one does, with the DNS that it asks. Like
// all of testkit it is not imported outside tests.
package pebble

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"

	"github.com/jetway-project/jetway/internal/testkit"
)

// newOrderPath is where clients place orders.
const newOrderPath = "/order-plz"

// Config says where challenges are checked.
type Config struct {
	// HTTPPort and TLSPort stand for 80 and 443.
	HTTPPort, TLSPort int
	// Delegated, if not "", is the address of the DNS server that all TXT records
	// are delegated to. All names have the address 127.0.0.1.
	Delegated string
	// Accounts, if not empty, are the external accounts of which every client must have one, by identifier: their keys in base64url.
	Accounts map[string]string
}

// Server is a running authority.
type Server struct {
	// Roots are to be trusted as the authority's directory, and CA is their file.
	Roots *x509.CertPool
	CA    string

	t       testing.TB
	ca      *ca.CAImpl
	handler http.Handler
	cert    tls.Certificate
	address string
	running *http.Server
	orders  atomic.Int64
}

// environment has pebble check at once, check everything each time, and count an order
// once: it refuses good nonces now and then otherwise.
var environment = sync.OnceFunc(func() {
	for name, value := range map[string]string{"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_AUTHZREUSE": "0", "PEBBLE_WFE_NONCEREJECT": "0"} {
		if err := os.Setenv(name, value); err != nil {
			panic(err)
		}
	}
})

// Start starts an authority that runs until the test ends.
func Start(t testing.TB, cfg Config) *Server {
	t.Helper()
	environment()
	authority := testkit.NewAuthority(t)
	certFile, keyFile := authority.Server()
	s := &Server{t: t, CA: authority.CA}
	var err error
	if s.Roots, err = Pool(authority.CA); err != nil {
		t.Fatal(err)
	}
	if s.cert, err = tls.LoadX509KeyPair(certFile, keyFile); err != nil {
		t.Fatal(err)
	}
	log := slog.NewLogLogger(testkit.Logger(t).With("from", "pebble").Handler(), slog.LevelDebug)
	store := db.NewMemoryStore()
	s.ca = ca.New(log, store, "", "ecdsa", 0, 1, map[string]ca.Profile{"default": {}})
	checks := va.New(log, cfg.HTTPPort, cfg.TLSPort, true, resolver(t, cfg.Delegated), store)
	for id, key := range cfg.Accounts {
		if err := store.AddExternalAccountKeyByID(id, key); err != nil {
			t.Fatal(err)
		}
	}
	front := wfe.New(log, store, checks, s.ca, []string{"pebble.test"}, true, len(cfg.Accounts) > 0, 0, 0)
	handler := front.Handler()
	s.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == newOrderPath {
			s.orders.Add(1)
		}
		handler.ServeHTTP(w, r)
	})
	s.address = "127.0.0.1:0"
	s.Up()
	t.Cleanup(s.Down)
	return s
}

// Pool reads a file of certificates.
func Pool(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, errors.New(file + " has no certificate")
	}
	return pool, nil
}

// Directory is the authority's URL.
func (s *Server) Directory() string { return "https://" + s.address + wfe.DirectoryPath }

// Orders says how many were placed.
func (s *Server) Orders() int { return int(s.orders.Load()) }

// Issuers are to be trusted as those who issue.
func (s *Server) Issuers() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(s.ca.GetRootCert(0).Cert)
	return pool
}

// Down stops answering.
func (s *Server) Down() {
	if s.running != nil {
		_ = s.running.Close()
		s.running = nil
	}
}

// Up answers again, at the same address.
func (s *Server) Up() {
	s.t.Helper()
	listener, err := net.Listen("tcp", s.address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.address = listener.Addr().String()
	server := &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: testkit.Patience,
		TLSConfig:         &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{s.cert}},
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}
	s.running = server
	go func() { _ = server.ServeTLS(listener, "", "") }()
}

// resolver starts the DNS server that the authority asks, and gives its address.
func resolver(t testing.TB, delegated string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{Listener: listener, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		_ = w.WriteMsg(resolve(q, delegated))
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.ActivateAndServe()
	}()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
		defer cancel()
		if err := server.ShutdownContext(ctx); err != nil && !errors.Is(err, net.ErrClosed) {
			_ = listener.Close()
		}
		<-done
	})
	return listener.Addr().String()
}

func resolve(q *dns.Msg, delegated string) *dns.Msg {
	reply := new(dns.Msg).SetReply(q)
	if len(q.Question) != 1 {
		return reply
	}
	switch ask := q.Question[0]; ask.Qtype {
	case dns.TypeA:
		reply.Answer = []dns.RR{&dns.A{
			Hdr: dns.RR_Header{Name: ask.Name, Rrtype: dns.TypeA, Class: dns.ClassINET},
			A:   net.IP(netip.MustParseAddr("127.0.0.1").AsSlice()),
		}}
	case dns.TypeTXT:
		if delegated == "" {
			return reply
		}
		forward := new(dns.Msg).SetQuestion(ask.Name, ask.Qtype)
		answer, err := dns.Exchange(forward, delegated)
		if err != nil {
			reply.Rcode = dns.RcodeServerFailure
			return reply
		}
		reply.Answer, reply.Rcode = answer.Answer, answer.Rcode
	}
	return reply
}
