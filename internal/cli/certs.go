package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/certs"
	"github.com/jetway-project/jetway/internal/metrics"
)

// certFlags say where a proxy's certificates come from.
type certFlags struct {
	CertFile      string   `type:"path" placeholder:"FILE" help:"Serve https with this certificate, followed by those that lead to its authority (PEM). Read again when it changes."`
	KeyFile       string   `type:"path" placeholder:"FILE" help:"Its private key (PEM)."`
	ACMEDomain    []string `name:"acme-domain" placeholder:"DOMAIN" help:"Serve https with certificates for these domains, mostly the cluster's, that an authority gives by ACME. You agree to its terms. Give all proxies the same."`
	ACMEChallenge string   `name:"acme-challenge" enum:"tls-alpn-01,http-01,dns-01" default:"tls-alpn-01" help:"How the authority is shown that they are yours: ${enum}. It reaches the proxies on port 443 (tls-alpn-01), by --http-listen on port 80 (http-01), or jetway dns (dns-01), which gets certificates for subdomains too. Default: ${default}."`
	ACMEEmail     string   `name:"acme-email" placeholder:"ADDRESS" help:"Where the authority reaches you. Default: nowhere."`
	ACMECA        string   `name:"acme-ca" placeholder:"URL" help:"Directory of the authority. Default: that of Let's Encrypt."`
	ACMECARoot    string   `name:"acme-ca-root" type:"path" placeholder:"FILE" help:"Certificates to trust as the authority's (PEM), instead of those that the system trusts."`
	ACMEEABKid    string   `name:"acme-eab-kid" placeholder:"ID" help:"Key identifier of the account that you have with the authority (External Account Binding), for those that ask for one."`
	ACMEEABKey    string   `name:"acme-eab-key" placeholder:"KEY" help:"Its key (HMAC), base64url as the authority gives it."`
	HTTPListen    string   `name:"http-listen" placeholder:"[HOST]:PORT" help:"Where to answer plain HTTP, with the way to https. Default: nowhere."`
}

// keeper has the certificates of a proxy; nil when it serves no https.
type keeper struct {
	*certs.Keeper
	running sync.WaitGroup
	plain   net.Listener
}

// keeper makes the keeper for a listener.
func (f *certFlags) keeper(r *run, listener net.Listener) (*keeper, error) {
	files := f.CertFile != "" || f.KeyFile != ""
	switch {
	case (f.CertFile == "") != (f.KeyFile == ""):
		return nil, usagef("--cert-file and --key-file: give both or none")
	case files && len(f.ACMEDomain) > 0:
		return nil, usagef("--cert-file and --acme-domain: give one of them")
	case (f.ACMEEABKid == "") != (f.ACMEEABKey == ""):
		return nil, usagef("--acme-eab-kid and --acme-eab-key: give both or none")
	case len(f.ACMEDomain) == 0 && (f.ACMEEmail != "" || f.ACMECA != "" || f.ACMECARoot != "" || f.ACMEEABKid != ""):
		return nil, usagef("--acme-domain: name the domains to get certificates for")
	case !files && len(f.ACMEDomain) == 0 && f.HTTPListen != "":
		return nil, usagef("--http-listen: leads to https, which needs --cert-file or --acme-domain")
	case !files && len(f.ACMEDomain) == 0:
		return nil, nil
	case len(f.ACMEDomain) > 0 && f.ACMEChallenge == string(certs.HTTP01) && f.HTTPListen == "":
		return nil, usagef("--acme-challenge: http-01 needs --http-listen, reached on port 80")
	}
	cfg := certs.Config{CertFile: f.CertFile, KeyFile: f.KeyFile, TLSAddr: listener.Addr(), Log: r.log}
	flag := "--cert-file"
	if !files {
		flag = "--acme-domain"
		cfg.ACME = &certs.ACME{Domains: f.ACMEDomain, Email: f.ACMEEmail, Directory: f.ACMECA, Challenge: certs.Challenge(f.ACMEChallenge)}
		cfg.ACME.EABKid, cfg.ACME.EABKey = f.ACMEEABKid, f.ACMEEABKey
		if f.ACMECARoot != "" {
			pem, err := os.ReadFile(f.ACMECARoot)
			if err != nil {
				return nil, badFlag("--acme-ca-root", err)
			}
			cfg.ACME.Roots = x509.NewCertPool()
			if !cfg.ACME.Roots.AppendCertsFromPEM(pem) {
				return nil, usagef("--acme-ca-root: %s has no certificate (PEM)", f.ACMECARoot)
			}
		}
	}
	k := new(keeper)
	if f.HTTPListen != "" {
		var err error
		if k.plain, err = net.Listen("tcp", f.HTTPListen); err != nil {
			return nil, badFlag("--http-listen", err)
		}
		cfg.HTTP = k.plain
	}
	var err error
	if k.Keeper, err = certs.New(cfg); err != nil {
		k.abandon()
		return nil, badFlag(flag, err)
	}
	return k, nil
}

// tls is what browsers are met with; nil without https.
func (k *keeper) tls() *tls.Config {
	if k == nil {
		return nil
	}
	return k.TLSConfig()
}

// show has the certificates shown among the metrics of the proxy.
func (k *keeper) show(m *metrics.Proxy) {
	if k == nil {
		return
	}
	m.ShowCertificates(func() metrics.Certificates {
		now := metrics.Certificates{Until: make(map[string]time.Time)}
		now.Got, now.Failed = k.Orders()
		for _, c := range k.Certificates() {
			now.Until[c.Name] = c.Until
		}
		return now
	})
}

// abandon closes what run would have.
func (k *keeper) abandon() {
	if k != nil && k.plain != nil {
		_ = k.plain.Close()
	}
}

// start keeps the certificates until stop, also while the proxy drains.
func (k *keeper) start(ctx context.Context, nc *nats.Conn) (stop func()) {
	if k == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	k.running.Go(func() { k.Run(ctx, nc) })
	return func() {
		cancel()
		k.running.Wait()
	}
}
