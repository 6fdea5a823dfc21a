package cli

import (
	"context"
	"crypto/tls"
	"errors"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/messages"
)

// connectError says why there is no connection to a NATS server.
func connectError(server string, err error) error {
	server = bus.Redact(server)
	var cert *tls.CertificateVerificationError
	f := &failure{kind: "Unauthorized", code: ExitFailed, err: err}
	why := strings.TrimPrefix(err.Error(), "connect to NATS at "+server+": ")
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, nats.ErrNkeysNotSupported):
		f.what = "the NATS server at " + server + " knows no nkeys and no credentials files"
		f.do = "leave out --nkey and --creds, or name another server with --nats"
	case bus.Unauthorized(err):
		f.what = "the NATS server at " + server + " does not let us in: " + why
		f.do = "give the credentials of one of its users with --creds, --nkey, --context or user:password@ in --nats"
	case errors.As(err, &cert):
		f.what = "the certificate of the NATS server at " + server + " is not to be trusted: " + cert.Err.Error()
		f.do = "name its authority with --tls-ca, and it as its certificate does with --nats"
	case bus.RefusesTLS(err), errors.Is(err, nats.ErrTLS): // or it hangs up before its word gets here
		f.what = "the NATS server at " + server + " refuses TLS with us: " + why
		f.do = "give a certificate that it trusts with --tls-cert and --tls-key"
	case errors.Is(err, nats.ErrSecureConnWanted):
		f.what = "the NATS server at " + server + " has no TLS"
		f.do = "leave out --tls-ca, --tls-cert and tls://, if you trust the network"
	default:
		f.kind, f.code = string(messages.Unavailable), ExitUnavailable
		f.what = "cannot reach NATS at " + server + ": " + why
		f.do = "start one with jetway dev, or name it with --nats or --context"
	}
	return f
}

// deniedError is something that our user at the NATS server must not do.
func deniedError(server string, d bus.Denied) error {
	what, do := "publish", "use a user who may, or have its permissions widened (deploy/nats shows those of each role)"
	if d.Operation == "subscribe" {
		what = "listen"
		if strings.HasPrefix(d.Subject, "_INBOX") {
			do = "name the prefix that is this user's with --inbox-prefix, such as _INBOX.web"
		}
	}
	on := ""
	if d.Subject != "" {
		on = " on " + d.Subject
	}
	return &failure{
		what: "the NATS server at " + bus.Redact(server) + " does not let us " + what + on,
		kind: "Forbidden", do: do, code: ExitFailed, err: nats.ErrPermissionViolation,
	}
}

// refused is what the NATS server refused while a command ran, nil if nothing.
func (r *run) refused() error {
	if f, ok := errors.AsType[*failure](context.Cause(r.ctx)); ok {
		return f
	}
	return nil
}
