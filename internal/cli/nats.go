package cli

import (
	"context"
	"regexp"
	"strings"
	"time"

	"github.com/nats-io/jsm.go/natscontext"
	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/messages"
	"github.com/jetway-project/jetway/messages/client"
)

// natsFlags say which NATS server, and as whom.
type natsFlags struct {
	NATS        string `name:"nats" env:"NATS_URL" placeholder:"URL" help:"NATS server, several separated by commas; may hold user:password@. Default: that of the context, else nats://127.0.0.1:4222."`
	Context     string `env:"NATS_CONTEXT" placeholder:"NAME" help:"Context of the nats command, with server and credentials. Default: the selected one, unless --nats is given."`
	Creds       string `placeholder:"FILE" help:"File with NATS credentials (JWT and seed)."`
	Nkey        string `placeholder:"FILE" help:"File with the seed of a NATS nkey."`
	TLSCert     string `placeholder:"FILE" help:"Client certificate for TLS (PEM)."`
	TLSKey      string `placeholder:"FILE" help:"Its private key (PEM)."`
	TLSCA       string `name:"tls-ca" placeholder:"FILE" help:"Certificate authorities to trust (PEM), instead of the system's."`
	InboxPrefix string `placeholder:"SUBJECT" help:"Subject below which replies arrive. Default: that of the context, else _INBOX. and the user of the URL, else _INBOX. and the drone's name, worker, proxy, gateway, dns or operator."`
}

// resolve gives the server and the options to connect to it. Flags overrule the
// context. user is who it is where neither flags nor context name a user.
func (f *natsFlags) resolve(user string) (string, []nats.Option, error) {
	if (f.TLSCert == "") != (f.TLSKey == "") {
		return "", nil, usagef("--tls-cert and --tls-key: give both or none")
	}
	if f.Creds != "" && f.Nkey != "" {
		return "", nil, usagef("--creds and --nkey: give one of them, or one of JETWAY_CREDS and JETWAY_NKEY")
	}
	urlUser, err := usersOf("--nats", f.NATS)
	if err != nil {
		return "", nil, err
	}
	name := f.Context
	if name == "" && f.NATS == "" {
		name = natscontext.SelectedContext()
	}
	nctx, err := natscontext.New(name, name != "",
		natscontext.WithServerURL(f.NATS),
		natscontext.WithCertificate(f.TLSCert),
		natscontext.WithKey(f.TLSKey),
		natscontext.WithCA(f.TLSCA),
		natscontext.WithInboxPrefix(f.InboxPrefix))
	if err != nil {
		return "", nil, usagef("--context: %v", err)
	}
	if f.NATS == "" {
		if urlUser, err = usersOf("the URL of context "+name, nctx.ServerURL()); err != nil {
			return "", nil, err
		}
	}
	if err := f.check(nctx, name); err != nil {
		return "", nil, err
	}
	opts, err := nctx.NATSOptions()
	if err != nil {
		return "", nil, usagef("the credentials of NATS context %q: %v", name, err)
	}
	switch {
	case f.Creds != "":
		opts = append(opts, asNobody, nats.UserCredentials(f.Creds))
	case f.Nkey != "":
		opt, err := nats.NkeyOptionFromSeed(f.Nkey)
		if err != nil {
			return "", nil, badFile("--nkey "+f.Nkey, err)
		}
		opts = append(opts, asNobody, opt)
	case urlUser != "":
		opts = append(opts, asNobody)
	default:
		urlUser = nctx.User()
	}
	if nctx.InboxPrefix() == "" {
		if nameable.MatchString(urlUser) {
			user = urlUser
		}
		opts = append(opts, nats.CustomInboxPrefix(messages.InboxPrefix(user)))
	} else if !inboxable.MatchString(nctx.InboxPrefix()) {
		return "", nil, usagef("--inbox-prefix: must be a subject without * and >, such as _INBOX.web")
	}
	return nctx.ServerURL(), opts, nil
}

var (
	nameable  = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)
	inboxable = regexp.MustCompile(`^[^\s.*>]+(\.[^\s.*>]+)*$`)
)

// usersOf reads the servers and gives the user of the first that has one.
func usersOf(what, servers string) (user string, err error) {
	for server := range strings.SplitSeq(servers, ",") {
		server = strings.TrimSpace(server)
		if server == "" {
			continue
		}
		u, err := bus.ParseServer(server)
		if err != nil {
			return "", usagef("%s: %v", what, err)
		}
		if user == "" && u.User != nil {
			if user = u.User.Username(); user == "" {
				return "", usagef("%s: has a password, but no user", what)
			}
		}
	}
	return user, nil
}

// asNobody drops the user of a context, because the flags name another one.
func asNobody(o *nats.Options) error {
	o.User, o.Password, o.UserInfo = "", "", nil
	o.Token, o.TokenHandler = "", nil
	o.Nkey, o.UserJWT, o.SignatureCB = "", nil, nil
	return nil
}

// dial connects once, for a command that wants an answer now. A connection that is lost later comes back. If the server forbids something, or
// does not let us in again, dial ends r's context with the reason as its cause; otherwise the command would wait in vain.
func (f *natsFlags) dial(r *run) (*nats.Conn, error) {
	server, opts, err := f.resolve("operator")
	if err != nil {
		return nil, err
	}
	ctx, refuse := context.WithCancelCause(r.ctx)
	r.ctx = ctx
	opts = append([]nats.Option{
		nats.Name("jetway"),
		nats.Timeout(r.bound(3 * time.Second)),
		nats.MaxReconnects(-1),
		nats.ReconnectBufSize(-1),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				r.log.Warn("lost the NATS server, reconnecting", "err", err)
			}
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			if denied, ok := bus.AsDenied(err); ok {
				if strings.HasPrefix(denied.Subject, messages.SleepEventSubject("")) { // permissions as of before backends slept
					r.log.Warn("when backends fall asleep and wake is not shown: these credentials may not listen to it (deploy/nats shows the permissions of each role)", "subject", denied.Subject)
					return
				}
				refuse(deniedError(server, denied))
				return
			}
			if bus.Unauthorized(err) {
				refuse(connectError(server, err))
				return
			}
			r.log.Warn("the NATS server or client reports", "err", err)
		}),
	}, opts...)
	nc, err := nats.Connect(server, opts...)
	if err != nil {
		return nil, connectError(server, err)
	}
	return nc, nil
}

// connect connects for a role: it tries until ctx ends. user is the default user; gap, if not nil, is told when a lost connection is back.
func (f *natsFlags) connect(r *run, name, user string, gap func()) (*nats.Conn, error) {
	server, opts, err := f.resolve(user)
	if err != nil {
		return nil, err
	}
	nc, err := bus.Connect(r.ctx, bus.Config{URL: server, Name: name, Options: opts, OnReconnect: gap, Log: r.log})
	if err != nil && r.ctx.Err() == nil {
		return nil, connectError(server, err)
	}
	return nc, err
}

// clientFlags are those of the commands that ask a worker.
type clientFlags struct {
	natsFlags `group:"NATS server:"`
	Timeout   time.Duration `default:"${timeout}" help:"How long to wait for a worker's reply, 60s at most."`
	JSON      bool          `name:"json" help:"Print JSON. deploy/README.md says in which shape."`
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
	return client.Request[Resp](ctx, nc, subject, req)
}

// environ passes the flags to a child in its environment, which other users of the machine cannot read.
func (f *natsFlags) environ() []string {
	return []string{
		"NATS_URL=" + f.NATS, "NATS_CONTEXT=" + f.Context, "JETWAY_CREDS=" + f.Creds, "JETWAY_NKEY=" + f.Nkey,
		"JETWAY_TLS_CERT=" + f.TLSCert, "JETWAY_TLS_KEY=" + f.TLSKey, "JETWAY_TLS_CA=" + f.TLSCA, "JETWAY_INBOX_PREFIX=" + f.InboxPrefix,
	}
}
