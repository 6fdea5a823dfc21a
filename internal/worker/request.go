package worker

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/nats-io/nuid"

	"github.com/jetway-project/jetway/internal/metrics"
	"github.com/jetway-project/jetway/internal/tracing"
	"github.com/jetway-project/jetway/messages"
)

// Bounds of how long a request may take.
const (
	defaultTimeout = 5 * time.Second
	maxTimeout     = 60 * time.Second
)

// request is one request on its way; it is replied to exactly once.
type request struct {
	subject  string
	reply    string
	data     []byte
	headers  micro.Headers
	arrived  time.Time
	deadline time.Time
	endpoint *metrics.Endpoint
	span     tracing.Span
}

func newRequest(r micro.Request, endpoint *metrics.Endpoint, now time.Time) (*request, error) {
	req := &request{subject: r.Subject(), reply: r.Reply(), data: r.Data(), headers: r.Headers(), arrived: now, endpoint: endpoint}
	timeout := defaultTimeout
	if text := req.headers.Get(messages.HeaderTimeout); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil || d <= 0 {
			return req, messages.Errorf(messages.BadRequest, "header %s: %.40q is not a positive Go duration such as 5s", messages.HeaderTimeout, text)
		}
		timeout = min(d, maxTimeout)
	}
	req.deadline = now.Add(timeout)
	return req, nil
}

// settled counts the request, which is replied to now: before the reply, so that
// who has it finds it counted.
func (req *request) settled(kind messages.Kind, err error) {
	req.endpoint.Done(kind, time.Since(req.arrived))
	if !req.span.On() {
		return
	}
	outcome := metrics.OK
	if kind != "" {
		outcome = string(kind)
	}
	req.span.Set("jetway.outcome", outcome)
	if kind.Code() < 500 {
		err = nil // the asker's doing
	}
	req.span.End(err)
}

// replier answers requests. micro's own Error is not used: it notes the error in
// the request, which races with the service's statistics once the handler has
// returned; so the service counts no errors, and the worker counts its own.
type replier struct {
	nc  *nats.Conn
	log *slog.Logger
}

func (r *replier) ok(req *request, payload any) {
	req.settled("", nil)
	r.send(req, &nats.Msg{Subject: req.reply, Data: messages.Encode(payload)})
}

// fail answers with an error. What is not a messages.Error is our fault or
// somebody's whom the asker cannot see: the cause goes into the log only.
func (r *replier) fail(req *request, err error) {
	refusal := new(messages.Error)
	var known *messages.Error
	switch {
	case errors.As(err, &known):
		*refusal = *known
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		*refusal = *messages.Errorf(messages.Unavailable, "not settled in time")
	default:
		*refusal = *messages.Errorf(messages.Internal, "something went wrong; the worker's log has the cause under this id")
	}
	refusal.ID = nuid.Next()
	level := slog.LevelInfo
	if refusal.Kind.Code() >= 500 {
		level = slog.LevelWarn
	}
	if refusal.Kind == messages.Internal {
		level = slog.LevelError
	}
	req.settled(refusal.Kind, err)
	r.log.Log(context.Background(), level, "refused a request", "subject", req.subject, "id", refusal.ID, "kind", refusal.Kind, "err", err)
	r.send(req, &nats.Msg{
		Subject: req.reply,
		Data:    messages.Encode(refusal),
		Header: nats.Header{
			messages.HeaderError:     {refusal.Message},
			messages.HeaderErrorCode: {refusal.CodeString()},
		},
	})
}

func (r *replier) send(req *request, msg *nats.Msg) {
	if req.reply == "" {
		return // published, not requested: nobody listens
	}
	if err := r.nc.PublishMsg(msg); err != nil {
		r.log.Warn("cannot reply", "subject", req.subject, "err", err)
	}
}
