package cli

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/pebble"
	"github.com/jetway-project/jetway/internal/testkit/pgtest"
	"github.com/jetway-project/jetway/messages"
)

func TestHTTPSUsage(t *testing.T) {
	t.Parallel()
	none := filepath.Join(t.TempDir(), "none.pem")
	if err := os.WriteFile(none, []byte("none"), 0o600); err != nil {
		t.Fatal(err)
	}
	cert, key := testkit.NewAuthority(t).Server()
	files := "--cert-file " + cert + " --key-file " + key
	for args, line := range map[string]string{
		"--cert-file a":                              "--cert-file and --key-file: give both or none",
		"--cert-file a --key-file b":                 "--cert-file: open ",
		"--cert-file " + none + " --key-file " + key: "are no certificate and its key",
		files + " --acme-domain a.example":           "--cert-file and --acme-domain: give one of them",
		files + " --http-listen x":                   "--http-listen: ",
		"--acme-email a@b":                           "--acme-domain: name the domains",
		"--http-listen :0":                           "--http-listen: leads to https",
		"--acme-domain a.example:443":                "--acme-domain: must be a hostname",
		"--acme-domain *.a.example":                  "--acme-domain: must be a hostname",
		"--acme-domain 127.0.0.1":                    "--acme-domain: must be a hostname",
		"--acme-domain a --acme-challenge http-01":   "--acme-challenge: http-01 needs --http-listen",
		"--acme-domain a --acme-challenge x":         "--acme-challenge must be one of",
		"--acme-domain a --acme-ca http://ca":        "must be an https:// URL",
		"--acme-domain a --acme-ca-root " + none:     "has no certificate (PEM)",
		"--acme-domain a --acme-ca-root /nowhere":    "--acme-ca-root: open ",
	} {
		stdout, stderr, code := jetway(t, append([]string{"proxy", "--listen", "127.0.0.1:0"}, strings.Fields(args)...)...)
		if stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, line) || code != ExitUsage {
			t.Errorf("jetway proxy %s: printed %q and %q, wanted %q; exit code %d", args, stdout, stderr, line, code)
		}
	}
}

// browse asks through the proxy at address, as a browser that went to host.
func browse(t *testing.T, config *tls.Config, url, address string) *http.Response {
	t.Helper()
	transport := &http.Transport{
		TLSClientConfig: config, ForceAttemptHTTP2: true, DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(testkit.Context(t), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	reply, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = reply.Body.Close()
	return reply
}

// With the permissions of deploy/nats, and no others, two proxies and a DNS server get
// the certificates of a cluster and its subdomains from an authority, once, and serve https.
func TestPermissionsSufficeForCertificates(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	g.role("worker", "worker", "--name", "wo-1", "--postgres", pgtest.Database(t)).await(t, "answering requests")
	server := g.role("dns", "dns", "--name", "ns-1", "--listen", "127.0.0.1:0", "--zone", "_acme-challenge.rooms.example.com", "--nameserver", "ns1.example.com")
	ca := pebble.Start(t, pebble.Config{Delegated: server.await(t, `"msg":"serving".*"address":"([^"]+)"`)[1]})
	for _, name := range []string{"px-1", "px-2"} {
		proxy := g.role("proxy", "proxy", "--name", name, "--listen", "127.0.0.1:0", "--drain-delay", "0s", "--http-listen", "127.0.0.1:0", "--metrics-addr", "127.0.0.1:0",
			"--acme-domain", "rooms.example.com", "--acme-challenge", "dns-01", "--acme-ca", ca.Directory(), "--acme-ca-root", ca.CA)
		address := proxy.await(t, `"msg":"serving".*"address":"([^"]+)"`)[1]
		plain := proxy.await(t, `"msg":"redirecting plain HTTP.*"address":"([^"]+)"`)[1]
		for _, host := range []string{"rooms.example.com", `doc.rooms.example.com`} {
			proxy.await(t, `"msg":"using a certificate".*"name":"`+strings.ReplaceAll(strings.Replace(host, "doc.", "*.", 1), "*", `\*`)+`"`)
			reply := browse(t, &tls.Config{RootCAs: ca.Issuers(), MinVersion: tls.VersionTLS12}, "https://"+host+"/"+strings.Repeat("a", messages.MaxToken)+"/", address)
			if reply.StatusCode != http.StatusUnauthorized || reply.ProtoMajor != 2 {
				t.Errorf("%s answers for %s with %s, %s", name, host, reply.Status, reply.Proto)
			}
			_, metrics := get(t, proxy.await(t, `"msg":"serving metrics and health".*"url":"([^"]+)"`)[1]+"/metrics")
			for _, want := range []string{`jetway_proxy_certificate_until_timestamp_seconds{name="rooms.example.com"}`, `jetway_proxy_certificate_orders_total{outcome="failed"} 0`} {
				if !strings.Contains(metrics, want) {
					t.Errorf("%s shows no %s", name, want)
				}
			}
			reply = browse(t, nil, "http://"+host+"/x/y?z=1", plain)
			if got := reply.Header.Get("Location"); reply.StatusCode != http.StatusPermanentRedirect || got != "https://"+host+"/x/y?z=1" {
				t.Errorf("plain HTTP is answered with %s %s", reply.Status, got)
			}
		}
	}
	if ca.Orders() != 2 {
		t.Errorf("%d orders for two names", ca.Orders())
	}
}
