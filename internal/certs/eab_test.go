package certs

import (
	"net"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/testkit/pebble"
)

// An authority that asks for an account of its own (External Account Binding) gives certificates to who has one.
func TestExternalAccount(t *testing.T) {
	t.Parallel()
	const id, key = "kid-1", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
	f := newFront(t)
	ca := pebble.Start(t, pebble.Config{
		HTTPPort: f.plain.Addr().(*net.TCPAddr).Port, TLSPort: f.tls.Addr().(*net.TCPAddr).Port, Accounts: map[string]string{id: key},
	})
	cfg := f.config(ca, TLSALPN01)
	cfg.HTTP = nil
	for want, wrong := range map[string]ACME{
		"its key":   {EABKid: id},
		"base64url": {EABKid: id, EABKey: "a+b/"},
	} {
		acme := *cfg.ACME
		acme.EABKid, acme.EABKey = wrong.EABKid, wrong.EABKey
		bad := cfg
		bad.ACME = &acme
		if err := bad.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error about %s, got %v", want, err)
		}
	}
	cfg.ACME.EABKid, cfg.ACME.EABKey = id, key
	f.serve(newBus(t), cfg)
	f.await(f.domain, "a certificate", anyOne)
	f.trusted(ca.Issuers(), f.domain)
}
