package worker

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/nats-io/nuid"

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
	deadline time.Time
}

func newRequest(r micro.Request, now time.Time) (*request, error) {
	req := &request{subject: r.Subject(), reply: r.Reply(), data: r.Data(), headers: r.Headers()}
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

// replier answers requests. micro's own Error is not used: it notes the error in
// the request, which races with the service's statistics once the handler has
// returned; so the service counts no errors, and the worker counts its own.
type replier struct {
	nc  *nats.Conn
	log *slog.Logger
}

func (r *replier) ok(req *request, payload any) {
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
