package bus

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/nats-io/nats.go"
)

// Config says where the server is and who connects.
type Config struct {
	// URL is one or more servers, separated by commas.
	URL string
	// Name is shown by the server: the role's name, e.g. dr-a.
	Name string
	// Options are added to the connection's own: credentials, TLS.
	Options []nats.Option
	// OnReconnect is called, if set, when a lost connection is back: what was
	// published meanwhile was missed.
	OnReconnect func()
	Log         *slog.Logger
}

// Connect connects, trying with backoff until ctx ends; from then on the
// connection reconnects by itself, forever, also when it is refused then: who may
// mend the credentials or the server need not start the role again as well.
// Errors that waiting cannot mend (bad URL, refused credentials) come back at once.
// No error and no log line holds what the URL has of passwords and tokens.
func Connect(ctx context.Context, cfg Config) (*nats.Conn, error) {
	log := cfg.Log
	var dropping dropping
	opts := append([]nats.Option{
		nats.Name(cfg.Name),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(100 * time.Millisecond),
		nats.CustomReconnectDelay(reconnectDelay),
		nats.PingInterval(10 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.Timeout(5 * time.Second),
		// What is asked while the server is away fails at once instead of piling up.
		nats.ReconnectBufSize(-1),
		nats.IgnoreAuthErrorAbort(),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn("lost the NATS server, reconnecting", "err", err)
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			log.Info("connected to the NATS server again", "url", nc.ConnectedUrlRedacted())
			if cfg.OnReconnect != nil {
				cfg.OnReconnect()
			}
		}),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			subject := ""
			if sub != nil {
				subject = sub.Subject
			}
			denied, ok := AsDenied(err)
			switch {
			case errors.Is(err, nats.ErrSlowConsumer) && sub != nil:
				if dropping.say(time.Now()) {
					dropped, _ := sub.Dropped()
					log.Error("messages came faster than they were taken, and were dropped", "subject", subject, "dropped", dropped)
				}
			case ok:
				log.Error("the NATS server forbids this user what it needs: compare its permissions with deploy/nats",
					"subject", denied.Subject, "operation", denied.Operation)
			case Unauthorized(err):
				log.Error("the NATS server does not let us in any more, trying again: see its users and our credentials", "err", err)
			default:
				log.Error("the NATS server or client reports", "subject", subject, "err", err)
			}
		}),
	}, cfg.Options...)

	wait := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(100*time.Millisecond),
		backoff.WithMaxInterval(5*time.Second),
		backoff.WithMaxElapsedTime(0))
	var nc *nats.Conn
	err := backoff.RetryNotify(func() error {
		var err error
		nc, err = nats.Connect(cfg.URL, opts...)
		if err != nil && !mayPass(err) {
			return backoff.Permanent(err)
		}
		if err == nil && nc.MaxPayload() < MinPayload {
			err = backoff.Permanent(fmt.Errorf("the server takes messages of at most %d bytes, and Jetway's have up to %d: set its max_payload, or the user's, to that or more (1 MiB is what NATS has by itself)", nc.MaxPayload(), MinPayload))
			nc.Close()
		}
		return err
	}, backoff.WithContext(wait, ctx), func(err error, d time.Duration) {
		log.Warn("cannot reach the NATS server, trying again", "url", Redact(cfg.URL), "in", d.Round(time.Millisecond), "err", err)
	})
	if err != nil {
		return nil, fmt.Errorf("connect to NATS at %s: %w", Redact(cfg.URL), err)
	}
	return nc, nil
}

// MinPayload is what every single message of Jetway fits in, with its headers: requests of
// messages.MaxPayload, a line of output in JSON. Lists are cut to what the server takes.
const MinPayload = 512 << 10

// dropping is when it was last said that messages are dropped, of any subscription: it goes on thousands
// of times a second.
type dropping struct{ last atomic.Int64 }

func (d *dropping) say(now time.Time) bool {
	last := d.last.Load()
	return now.UnixNano()-last >= int64(time.Second) && d.last.CompareAndSwap(last, now.UnixNano())
}

// mayPass tells a server that is away from a mistake in what it was given.
func mayPass(err error) bool {
	var certErr *tls.CertificateVerificationError
	return !Unauthorized(err) && !errors.Is(err, nats.ErrInvalidArg) && !errors.Is(err, os.ErrNotExist) &&
		!errors.Is(err, nats.ErrSecureConnRequired) && !errors.Is(err, nats.ErrSecureConnWanted) &&
		!errors.As(err, &certErr) && !RefusesTLS(err)
}

// reconnectDelay doubles from 50 ms to 2 s: quick enough that a drone's leases
// outlive the restart of a server.
func reconnectDelay(attempts int) time.Duration {
	return min(50*time.Millisecond<<min(attempts, 6), 2*time.Second)
}

// Drain finishes what is under way on nc and closes it, waiting at most limit.
func Drain(nc *nats.Conn, limit time.Duration) {
	closed := make(chan struct{})
	nc.SetClosedHandler(func(*nats.Conn) { close(closed) })
	if err := nc.Drain(); err != nil {
		nc.Close()
		return
	}
	select {
	case <-closed:
	case <-time.After(limit):
		nc.Close()
	}
}
