package certs

import (
	"cmp"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/jetway-project/jetway/messages"
)

// LetsEncrypt is the authority that is asked by default.
const LetsEncrypt = certmagic.LetsEncryptProductionCA

// Config says where certificates come from: either files or ACME.
type Config struct {
	// CertFile and KeyFile are PEM files: the certificate with those that lead to its
	// authority, and its private key. They are read again when they change.
	CertFile, KeyFile string
	// ACME, if not nil, gets certificates from an authority.
	ACME *ACME
	// TLSAddr is where the TLS listener listens. Required with ACME.
	TLSAddr net.Addr
	// HTTP, if not nil, is where plain HTTP is answered: with the way to https, and
	// HTTP-01 challenges. Run closes it.
	HTTP net.Listener
	// Log is where things are logged; slog.Default().
	Log *slog.Logger

	// For tests: how often certificates are looked at, what part of their life is
	// left when they are renewed, for how long they are ordered, and after how long bad
	// files are looked at again. By default 10 min, a third, what the authority likes, and 2 s.
	checkEvery time.Duration
	renewAt    float64
	life       time.Duration
	settle     time.Duration
}

// Challenge is how an authority is shown that a name is ours.
type Challenge string

// The challenges of ACME. HTTP01 needs Config.HTTP to be reached on port 80, TLSALPN01
// the TLS listener on port 443. DNS01 needs DNS servers on the bus, and gets
// certificates for the subdomains, *.domain, too.
const (
	HTTP01    Challenge = "http-01"
	TLSALPN01 Challenge = "tls-alpn-01"
	DNS01     Challenge = "dns-01"
)

// ACME says whose certificates to get, and from whom. All proxies that share a bus
// must be given the same.
type ACME struct {
	// Domains are the names to get certificates for; at least one.
	Domains []string
	// Email is where the authority reaches the operator; may be "".
	Email string
	// Directory is the authority's URL; [LetsEncrypt].
	Directory string
	// Roots are whom to trust as the authority; nil: whom the system trusts.
	Roots *x509.CertPool
	// EABKid and EABKey are the external account that the authority's is bound to, where it asks for one: an identifier, and
	// a key in base64url. Both or none.
	EABKid, EABKey string
	// Challenge is TLSALPN01 by default.
	Challenge Challenge
}

func (c *Config) setDefaults() {
	c.settle = cmp.Or(c.settle, settle)
	c.Log = cmp.Or(c.Log, slog.Default())
	if c.ACME != nil {
		acme := *c.ACME
		acme.Directory = cmp.Or(acme.Directory, LetsEncrypt)
		acme.Challenge = cmp.Or(acme.Challenge, TLSALPN01)
		c.ACME = &acme
	}
}

// Validate says what is wrong with the configuration, or nil.
func (c *Config) Validate() error {
	switch files := c.CertFile != "" || c.KeyFile != ""; {
	case (c.CertFile == "") != (c.KeyFile == ""):
		return errors.New("a certificate needs its key, and a key its certificate")
	case files == (c.ACME != nil):
		return errors.New("certificates come from files or by ACME: one of them")
	case files:
		return nil
	}
	if len(c.ACME.Domains) == 0 {
		return errors.New("there is no domain to get a certificate for")
	}
	for _, domain := range c.ACME.Domains {
		if err := messages.CheckDomain(domain); err != nil {
			return err
		}
	}
	if u, err := url.Parse(c.ACME.Directory); err != nil || u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("the authority's directory %q must be an https:// URL", c.ACME.Directory)
	}
	if (c.ACME.EABKid == "") != (c.ACME.EABKey == "") {
		return errors.New("an external account needs its key identifier and its key")
	}
	if _, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(c.ACME.EABKey, "=")); err != nil {
		return errors.New("the key of the external account must be base64url, as the authority gives it")
	}
	switch c.ACME.Challenge {
	case TLSALPN01, DNS01:
	case HTTP01:
		if c.HTTP == nil {
			return fmt.Errorf("the challenge %s needs a listener for plain HTTP", HTTP01)
		}
	default:
		return fmt.Errorf("the challenge %q must be %s, %s or %s", c.ACME.Challenge, HTTP01, TLSALPN01, DNS01)
	}
	if _, ok := c.TLSAddr.(*net.TCPAddr); !ok {
		return errors.New("there is no address of the TLS listener")
	}
	return nil
}

// names are those on the certificates: one each.
func (a *ACME) names() []string {
	var names []string
	for _, domain := range a.Domains {
		names = append(names, domain)
		if a.Challenge == DNS01 {
			names = append(names, "*."+domain)
		}
	}
	return names
}
