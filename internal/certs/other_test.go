package certs

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"testing"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/internal/testkit/pebble"
	"github.com/jetway-project/jetway/messages"
)

// otherEnv makes a child of the test binary another proxy, in a process of its own:
// certmagic's proxies in one process know of each other's challenges without the bus.
const otherEnv = "JETWAY_TEST_KEEPER"

type other struct {
	URL, Directory, Roots, Domain string
	Challenge                     Challenge
}

// playOther is the other proxy, until its standard input ends.
func playOther(env string) {
	err := func() error {
		var as other
		if err := json.Unmarshal([]byte(env), &as); err != nil {
			return err
		}
		roots, err := pebble.Pool(as.Roots)
		if err != nil {
			return err
		}
		log := slog.New(slog.NewTextHandler(os.Stderr, nil))
		cfg := Config{
			ACME: &ACME{Domains: []string{as.Domain}, Email: "ops@" + as.Domain, Directory: as.Directory, Roots: roots, Challenge: as.Challenge},
			Log:  log,
		}
		for _, l := range []*net.Listener{&cfg.HTTP, new(net.Listener)} {
			if *l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
				return err
			}
			cfg.TLSAddr = (*l).Addr()
		}
		k, err := New(cfg)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(context.Background())
		nc, err := bus.Connect(ctx, bus.Config{URL: as.URL, Name: "px-other", Log: log})
		if err != nil {
			cancel()
			return err
		}
		go func() {
			defer cancel()
			_, _ = io.Copy(io.Discard, os.Stdin)
		}()
		k.Run(ctx, nc)
		bus.Drain(nc, testkit.Patience)
		return nil
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, "the other proxy ended:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// One proxy orders, and the authority comes to another one, as behind a load balancer:
// that one answers from what they share, and uses the certificate.
func TestTheProxyThatIsAskedAnswersForTheOneThatOrders(t *testing.T) {
	t.Parallel()
	for _, challenge := range []Challenge{HTTP01, TLSALPN01} {
		t.Run(string(challenge), func(t *testing.T) {
			t.Parallel()
			f, url := newFront(t), newBus(t)
			ca := f.authority("")
			anyKey, err := natstest.Conn(t, url).SubscribeSync(messages.SubjectAllCerts)
			if err != nil {
				t.Fatal(err)
			}
			env, err := json.Marshal(other{URL: url, Directory: ca.Directory(), Roots: ca.CA, Domain: f.domain, Challenge: challenge})
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(context.Background(), os.Args[0])
			cmd.Env = append(os.Environ(), otherEnv+"="+string(env))
			cmd.Stderr = t.Output()
			stdin, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() {
				_ = stdin.Close()
				if err := cmd.Wait(); err != nil {
					t.Error("the other proxy ended with ", err)
				}
			}()
			// The lock is the other's. The authority waits at this listener until this proxy serves it.
			if _, err := anyKey.NextMsg(testkit.Patience); err != nil {
				t.Fatal("the other proxy orders nothing: ", err)
			}
			k, l, _ := f.serve(url, f.config(ca, challenge))
			f.await(f.domain, "a certificate", anyOne)
			f.trusted(ca.Issuers(), f.domain)
			if got, failed := k.Orders(); got != 0 || failed != 0 || ca.Orders() != 1 {
				t.Errorf("the proxy got %d certificates itself, %d failures, %d orders in all", got, failed, ca.Orders())
			}
			l.await("distributed=true")
		})
	}
}
