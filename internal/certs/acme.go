package certs

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
	mholt "github.com/mholt/acmez/v3/acme"
	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
)

const (
	alpnChallenge = acmez.ACMETLS1Protocol
	httpChallenge = "/.well-known/acme-challenge/"
	// maxLookups is how many challenges are looked up at once for clients that look
	// like an authority; each is a request on the bus.
	maxLookups = 64
	// closeTimeout is how long what is under way may take to give back its locks.
	closeTimeout = 5 * time.Second
)

// authority gets certificates by ACME.
type authority struct {
	cfg     *Config
	orders  *orders
	names   []string
	lookups chan struct{}
	magic   atomic.Pointer[magic] // nil until run has reached the bus
}

// magic is certmagic, put together.
type magic struct {
	cache  *certmagic.Cache
	config *certmagic.Config
	issuer *certmagic.ACMEIssuer
}

func newAuthority(cfg *Config, orders *orders) *authority {
	return &authority{cfg: cfg, orders: orders, names: cfg.ACME.names(), lookups: make(chan struct{}, maxLookups)}
}

// nameFor gives the certificate's name for a host, "" when it is none of ours.
func (a *authority) nameFor(host string) string {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if slices.Contains(a.names, host) && !strings.HasPrefix(host, "*") {
		return host
	}
	if _, parent, ok := strings.Cut(host, "."); ok && slices.Contains(a.names, "*."+parent) {
		return "*." + parent
	}
	return ""
}

func (a *authority) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name := a.names[0] // for those who do not say, as checks of load balancers
	if hello.ServerName != "" {
		if name = a.nameFor(hello.ServerName); name == "" {
			return nil, nil
		}
	}
	m := a.magic.Load()
	if m == nil {
		return nil, fmt.Errorf("there is no certificate for %s yet: NATS or the workers were not reached", name)
	}
	if slices.Equal(hello.SupportedProtos, []string{alpnChallenge}) {
		done, ok := a.lookup()
		if !ok || a.cfg.ACME.Challenge != TLSALPN01 {
			return nil, nil
		}
		defer done()
	}
	cert, err := m.config.GetCertificate(hello)
	if err != nil {
		return nil, fmt.Errorf("there is no certificate for %s yet: %w", name, err)
	}
	return cert, nil
}

// challenged answers an authority that asks for an HTTP-01 challenge.
func (a *authority) challenged(w http.ResponseWriter, r *http.Request) bool {
	m := a.magic.Load()
	if m == nil || a.cfg.ACME.Challenge != HTTP01 || !strings.HasPrefix(r.URL.Path, httpChallenge) {
		return false
	}
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	if a.nameFor(host) == "" {
		return false
	}
	done, ok := a.lookup()
	if !ok {
		http.Error(w, "Too many at once.", http.StatusServiceUnavailable)
		return true
	}
	defer done()
	return m.issuer.HandleHTTPChallenge(w, r)
}

// lookup says whether one more may ask the bus now.
func (a *authority) lookup() (done func(), ok bool) {
	select {
	case a.lookups <- struct{}{}:
		return func() { <-a.lookups }, true
	default:
		return nil, false
	}
}

func (a *authority) list() []Certificate {
	m := a.magic.Load()
	if m == nil {
		return nil
	}
	var found []Certificate
	for _, name := range a.names {
		if cert := m.newest(name); cert != nil {
			found = append(found, describe(cert))
		}
	}
	return found
}

// newest gives the certificate in use for a name, nil when there is none.
func (m *magic) newest(name string) *tls.Certificate {
	var newest *tls.Certificate
	for _, cert := range m.cache.AllMatchingCertificates(name) {
		if slices.Contains(cert.Names, name) && (newest == nil || cert.Leaf.NotAfter.After(newest.Leaf.NotAfter)) {
			newest = &cert.Certificate
		}
	}
	return newest
}

// run gets the certificates and keeps them valid.
func (a *authority) run(ctx context.Context, nc *nats.Conn) {
	store, err := openStorage(ctx, nc, a.cfg.Log)
	if err != nil {
		return // ctx has ended, or the connection
	}
	defer store.close(closeTimeout)
	var running sync.WaitGroup
	defer running.Wait()
	var solver *dnsSolver
	if a.cfg.ACME.Challenge == DNS01 {
		if solver, err = newDNSSolver(nc, a.cfg.Log); err != nil {
			a.cfg.Log.ErrorContext(ctx, "cannot get certificates", "err", err)
			return
		}
		running.Go(func() { solver.run(ctx) })
	}
	m := a.put(store, solver)
	defer m.cache.Stop()
	a.magic.Store(m)
	var loading sync.WaitGroup
	for _, name := range a.names {
		loading.Go(func() { a.obtain(ctx, m, name) })
	}
	loading.Wait()
	if ctx.Err() == nil {
		// Those that were stored may be due. What fails is tried again by the cache.
		if err := m.cache.RenewManagedCertificates(ctx); err != nil {
			a.cfg.Log.WarnContext(ctx, "cannot renew certificates yet", "err", err)
		}
	}
	<-ctx.Done()
}

// put puts certmagic together.
func (a *authority) put(store *storage, solver *dnsSolver) *magic {
	log := zap.New(&zapCore{log: a.cfg.Log})
	m := &magic{}
	m.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert:   func(certmagic.Certificate) (*certmagic.Config, error) { return m.config, nil },
		RenewCheckInterval: a.cfg.checkEvery,
		Logger:             log,
	})
	m.config = certmagic.New(m.cache, certmagic.Config{
		Storage: store,
		// The lock, which is written before anything is ordered, shows that it can be written.
		DisableStorageCheck: true,
		DefaultServerName:   a.names[0],
		RenewalWindowRatio:  a.cfg.renewAt,
		OCSP:                certmagic.OCSPConfig{DisableStapling: true}, // authorities have given it up
		OnEvent: func(ctx context.Context, event string, data map[string]any) error {
			a.heard(ctx, m, event, data)
			return nil
		},
		Logger: log,
	})
	acme := a.cfg.ACME
	template := certmagic.ACMEIssuer{
		CA:                      acme.Directory,
		Email:                   acme.Email,
		Agreed:                  true,
		TrustedRoots:            acme.Roots,
		NotAfter:                a.cfg.life,
		DisableHTTPChallenge:    acme.Challenge != HTTP01,
		DisableTLSALPNChallenge: acme.Challenge != TLSALPN01,
		Logger:                  log,
	}
	if acme.EABKid != "" {
		template.ExternalAccount = &mholt.EAB{KeyID: acme.EABKid, MACKey: strings.TrimRight(acme.EABKey, "=")}
	}
	// certmagic listens by itself where nobody does. There is somebody, if it knows where.
	tcp := a.cfg.TLSAddr
	if acme.Challenge == HTTP01 {
		tcp = a.cfg.HTTP.Addr()
	}
	if addr, ok := tcp.(*net.TCPAddr); ok {
		template.AltHTTPPort, template.AltTLSALPNPort = addr.Port, addr.Port
		if !addr.IP.IsUnspecified() {
			template.ListenHost = addr.IP.String()
		}
	}
	if solver != nil {
		template.DNS01Solver = solver
	}
	m.issuer = certmagic.NewACMEIssuer(m.config, template)
	m.config.Issuers = []certmagic.Issuer{m.issuer}
	return m
}

// obtain loads a certificate, or gets it if no proxy has got it yet.
func (a *authority) obtain(ctx context.Context, m *magic, name string) {
	log := a.cfg.Log.With("name", name)
	_ = persist(ctx, func() error {
		_, err := m.config.CacheManagedCertificate(ctx, name)
		if errors.Is(err, fs.ErrNotExist) {
			// Tries until it succeeds, holding the lock.
			if err = m.config.ObtainCertAsync(ctx, name); err == nil {
				_, err = m.config.CacheManagedCertificate(ctx, name)
			}
		}
		if err == nil {
			if cert := m.newest(name); cert != nil {
				log.InfoContext(ctx, "using a certificate", "until", cert.Leaf.NotAfter)
			}
		}
		return err
	}, func(err error) {
		if ctx.Err() == nil {
			log.WarnContext(ctx, "cannot load or get a certificate, trying again", "err", err)
		}
	})
}

// heard takes in what certmagic does.
func (a *authority) heard(ctx context.Context, m *magic, event string, data map[string]any) {
	name, _ := data["identifier"].(string)
	log := a.cfg.Log.With("name", name, "directory", a.cfg.ACME.Directory)
	switch event {
	case "cert_obtaining":
		log.InfoContext(ctx, "ordering a certificate")
	case "cert_obtained":
		a.orders.got.Add(1)
		log.InfoContext(ctx, "got a certificate")
	case "cert_failed":
		a.orders.failed.Add(1)
		err, _ := data["error"].(error)
		if cert := m.newest(name); cert != nil {
			log.WarnContext(ctx, "cannot renew a certificate, the old one goes on; trying again later", "until", cert.Leaf.NotAfter, "err", err)
			return
		}
		log.ErrorContext(ctx, "cannot get a certificate: there is none for this name; trying again later", "err", err)
	}
}
