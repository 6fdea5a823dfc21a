package cli

import (
	"strings"
	"testing"

	miekg "github.com/miekg/dns"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
	"github.com/jetway-project/jetway/messages/client"
)

func TestDNSUsage(t *testing.T) {
	t.Parallel()
	const zone = "_acme-challenge.rooms.example.com"
	for args, line := range map[string]string{
		"":                                 "missing flags: --nameserver=HOST,..., --zone=ZONE[=DOMAIN],...",
		"--zone a --nameserver b":          `--zone: "a" must begin with _acme-challenge.`,
		"--zone a=b_ --nameserver b":       `its domain "b_" must be a hostname`,
		"--nameserver 1.2.3.4 --zone ZONE": "must be a hostname",
		"--nameserver b --zone ZONE,ZONE":  "is given twice",
		"--nameserver ns.a.example --zone a.example=b":    "must not be within",
		"--nameserver b --name px-a --zone ZONE":          `--name: must be "ns-"`,
		"--nameserver b --listen 127.0.0.1:x --zone ZONE": "--listen: ",
	} {
		args = "dns " + strings.ReplaceAll(args, "ZONE", zone)
		stdout, stderr, code := jetway(t, strings.Fields(args)...)
		if stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, line) || code != ExitUsage {
			t.Errorf("jetway %s: printed %q and %q, wanted %q; exit code %d", args, stdout, stderr, line, code)
		}
	}
}

// With the permissions of deploy/nats, and no others: what a proxy presents is answered.
func TestPermissionsSufficeForDNS(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	proxy, _ := g.conn("proxy")
	started, err := proxy.SubscribeSync(messages.SubjectDNSStarted)
	if err != nil {
		t.Fatal(err)
	}
	if err := proxy.Flush(); err != nil {
		t.Fatal(err)
	}
	server := g.role("dns", "dns", "--name", "ns-1", "--listen", "127.0.0.1:0", "--zone", "_acme-challenge.rooms.example.com", "--nameserver", "ns1.example.com")
	address := server.await(t, `"msg":"serving".*"address":"([^"]+)"`)[1]
	ctx := testkit.Context(t)
	if _, err := started.NextMsgWithContext(ctx); err != nil {
		t.Fatal(err)
	}
	challenge := messages.Challenge{Domain: "rooms.example.com", Value: "V"}
	if by, err := client.Request[messages.Presented](ctx, proxy, messages.SubjectDNSPresent, challenge); err != nil || by.Server != "ns-1" {
		t.Fatal(by, err)
	}
	ask := func() *miekg.Msg {
		q := new(miekg.Msg)
		q.SetQuestion("_acme-challenge.rooms.example.com.", miekg.TypeTXT)
		client := miekg.Client{Timeout: testkit.Patience}
		reply, _, err := client.ExchangeContext(ctx, q, address)
		if err != nil {
			t.Fatal(err)
		}
		return reply
	}
	if reply := ask(); len(reply.Answer) != 1 {
		t.Error(reply)
	}
	if err := proxy.Publish(messages.SubjectDNSRemove, messages.Encode(challenge)); err != nil {
		t.Fatal(err)
	}
	// Answered after the other was taken in.
	if _, err := client.Request[messages.Presented](ctx, proxy, messages.SubjectDNSPresent, challenge); err != nil {
		t.Fatal(err)
	}
}
