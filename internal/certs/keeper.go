package certs

import (
	"context"
	"crypto/tls"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// Keeper has the certificates of one proxy.
type Keeper struct {
	cfg    Config
	source source
	orders orders
}

// source is where certificates come from.
type source interface {
	// certificate gives one for a handshake; nil without an error: the name is not ours.
	certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error)
	// list gives those in use.
	list() []Certificate
	// challenged answers an HTTP-01 challenge, if it is one.
	challenged(w http.ResponseWriter, r *http.Request) bool
	// run keeps them valid until ctx ends.
	run(ctx context.Context, nc *nats.Conn)
}

// Certificate is one that is in use.
type Certificate struct {
	// Name is the first on the certificate, e.g. *.rooms.example.com.
	Name string
	// From and Until are when it is valid.
	From, Until time.Time
}

// orders counts what was asked of the authority by this proxy.
type orders struct{ got, failed atomic.Uint64 }

// New makes a keeper. Files are read here, and must be good; what comes by ACME comes
// once it runs.
func New(cfg Config) (*Keeper, error) {
	cfg.setDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	k := &Keeper{cfg: cfg}
	if cfg.ACME == nil {
		files, err := openFiles(&cfg)
		if err != nil {
			return nil, err
		}
		k.source = files
	} else {
		k.source = newAuthority(&k.cfg, &k.orders)
	}
	return k, nil
}

// TLSConfig is for the TLS listener. It may be used before Run, and goes on after.
func (k *Keeper) TLSConfig() *tls.Config {
	cfg := &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"h2", "http/1.1"},
		GetCertificate: k.source.certificate,
	}
	if k.cfg.ACME != nil && k.cfg.ACME.Challenge == TLSALPN01 {
		cfg.NextProtos = append(cfg.NextProtos, alpnChallenge)
	}
	return cfg
}

// Certificates gives those in use.
func (k *Keeper) Certificates() []Certificate { return k.source.list() }

// Orders says how many certificates this proxy got from the authority, and how often
// it did not.
func (k *Keeper) Orders() (got, failed uint64) { return k.orders.got.Load(), k.orders.failed.Load() }

// Run keeps the certificates valid, and serves plain HTTP, until ctx ends; it returns
// when nothing is left. nc may be nil with files. It is called once.
func (k *Keeper) Run(ctx context.Context, nc *nats.Conn) {
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { k.source.run(ctx, nc) })
	running.Go(func() { k.watchExpiry(ctx) })
	if k.cfg.HTTP != nil {
		running.Go(func() { k.servePlain(ctx) })
	}
}
