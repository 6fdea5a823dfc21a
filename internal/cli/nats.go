package cli

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"time"

	"github.com/nats-io/jsm.go/natscontext"
	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/messages"
)

// natsFlags say which NATS server, and as whom.
type natsFlags struct {
	NATS    string `name:"nats" env:"NATS_URL" placeholder:"URL" help:"NATS server, several separated by commas. Default: that of the context, else nats://127.0.0.1:4222."`
	Context string `env:"NATS_CONTEXT" placeholder:"NAME" help:"NATS context, as the nats command keeps them. Default: the selected one, unless --nats is given."`
	Creds   string `placeholder:"FILE" help:"NATS credentials file."`
	Nkey    string `placeholder:"FILE" help:"NATS nkey seed file."`
	TLSCert string `placeholder:"FILE" help:"TLS client certificate."`
	TLSKey  string `placeholder:"FILE" help:"TLS client key."`
	TLSCA   string `name:"tls-ca" placeholder:"FILE" help:"TLS authority to trust."`
}

// resolve gives the server and the options to connect to it. Flags overrule the
// context.
func (f *natsFlags) resolve() (string, []nats.Option, error) {
	if (f.TLSCert == "") != (f.TLSKey == "") {
		return "", nil, usagef("--tls-cert and --tls-key: give both or none")
	}
	name := f.Context
	if name == "" && f.NATS == "" {
		name = natscontext.SelectedContext()
	}
	nctx, err := natscontext.New(name, name != "",
		natscontext.WithServerURL(f.NATS),
		natscontext.WithCreds(f.Creds),
		natscontext.WithNKey(f.Nkey),
		natscontext.WithCertificate(f.TLSCert),
		natscontext.WithKey(f.TLSKey),
		natscontext.WithCA(f.TLSCA))
	if err != nil {
		return "", nil, usagef("--context: %v", err)
	}
	opts, err := nctx.NATSOptions()
	if err != nil {
		return "", nil, usagef("the credentials for NATS (--context %q, --creds, --nkey): %v", name, err)
	}
	return nctx.ServerURL(), opts, nil
}

// dial connects for a command that wants an answer now: once. A connection that
// is lost later comes back.
func (f *natsFlags) dial(r *run) (*nats.Conn, error) {
	server, opts, err := f.resolve()
	if err != nil {
		return nil, err
	}
	opts = append([]nats.Option{
		nats.Name("jetway"),
		nats.Timeout(3 * time.Second),
		nats.MaxReconnects(-1),
		nats.ReconnectBufSize(-1),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				r.log.Warn("lost the NATS server, reconnecting", "err", err)
			}
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			r.log.Warn("the NATS server or client reports", "err", err)
		}),
	}, opts...)
	nc, err := nats.Connect(server, opts...)
	if err != nil {
		return nil, connectError(server, err)
	}
	return nc, nil
}

// connect connects for a role: it tries until ctx ends. gap, if not nil, is told
// when a lost connection is back.
func (f *natsFlags) connect(r *run, name string, gap func()) (*nats.Conn, error) {
	server, opts, err := f.resolve()
	if err != nil {
		return nil, err
	}
	nc, err := bus.Connect(r.ctx, bus.Config{URL: server, Name: name, Options: opts, OnReconnect: gap, Log: r.log})
	if err != nil && r.ctx.Err() == nil {
		return nil, connectError(server, err)
	}
	return nc, err
}

func connectError(server string, err error) error {
	server = redact(server)
	switch {
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired):
		return &failure{
			what: "the NATS server at " + server + " does not let us in: " + err.Error(), kind: "Unauthorized",
			do: "give credentials with --creds, --nkey or --context", code: ExitFailed, err: err,
		}
	case errors.Is(err, context.Canceled):
		return err
	}
	return &failure{
		what: "cannot reach NATS at " + server + ": " + err.Error(), kind: string(messages.Unavailable),
		do: "start one with jetway dev, or name it with --nats or --context", code: ExitUnavailable, err: err,
	}
}

// redact hides passwords in a list of servers.
func redact(servers string) string {
	list := strings.Split(servers, ",")
	for i, server := range list {
		if u, err := url.Parse(strings.TrimSpace(server)); err == nil {
			list[i] = u.Redacted()
		}
	}
	return strings.Join(list, ",")
}

// clientFlags are those of the commands that ask a worker.
type clientFlags struct {
	natsFlags `group:"NATS server:"`
	Timeout   time.Duration `default:"${timeout}" help:"How long to wait for the reply of a worker, 60s at most."`
	JSON      bool          `name:"json" help:"Print JSON."`
}

// open checks the flags and connects; the caller closes.
func (f *clientFlags) open(r *run) (*nats.Conn, error) {
	if f.Timeout < time.Millisecond || f.Timeout > time.Minute {
		return nil, usagef("--timeout: must be 1ms to 60s, not %s", f.Timeout)
	}
	return f.dial(r)
}

// ask sends one request and waits for its reply.
func ask[Resp any](r *run, f *clientFlags, nc *nats.Conn, subject string, req any) (Resp, error) {
	ctx, cancel := context.WithTimeout(r.ctx, f.Timeout)
	defer cancel()
	return bus.Request[Resp](ctx, nc, subject, req)
}
