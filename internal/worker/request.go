package worker

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
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
	headers  nats.Header
	arrived  time.Time
	deadline time.Time
	endpoint *endpoint
	lane     *lane // whose bound it counts against; nil: none's
	span     tracing.Span

	// Of a route request. open: nobody comes. key: it waits for a backend of this key, which outlives the one to which its token led.
	// resumed: it has waited for that.
	open    bool
	key     *messages.Key
	resumed bool
}

// requestSize is about what a request holds beside its bytes.
const requestSize = 512

func newRequest(e *endpoint, msg *nats.Msg, now time.Time) (*request, error) {
	req := &request{subject: msg.Subject, reply: msg.Reply, data: msg.Data, headers: msg.Header, arrived: now, endpoint: e}
	if err := messages.CheckPayload(msg.Data); err != nil {
		return req, err
	}
	timeout := defaultTimeout
	if text := req.headers.Get(messages.HeaderTimeout); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil || d <= 0 {
			return req, messages.Errorf(messages.BadRequest, "header %s: %.40q is not a positive Go duration such as 5s", messages.HeaderTimeout, text)
		}
		if d < time.Millisecond {
			return req, messages.Errorf(messages.BadRequest, "header %s: %.40q is less than a millisecond, in which nothing can be settled; the default is %s", messages.HeaderTimeout, text, defaultTimeout)
		}
		timeout = min(d, maxTimeout)
	}
	req.deadline = now.Add(timeout)
	return req, nil
}

// size is about how many bytes the request holds.
func (req *request) size() int64 {
	size := requestSize + len(req.subject) + len(req.reply) + len(req.data)
	for name, values := range req.headers {
		size += len(name)
		for _, value := range values {
			size += len(value)
		}
	}
	return int64(size)
}

// leave ends what the request counts for in its lane.
func (req *request) leave() {
	if req.lane != nil {
		req.lane.bytes.Add(-req.size())
		req.lane = nil
	}
}

// settled counts the request, which is replied to now: before the reply, so that
// who has it finds it counted. The refusal is nil where it was granted.
func (req *request) settled(refusal *messages.Error, err error) {
	req.leave()
	req.endpoint.done(refusal, time.Since(req.arrived))
	if !req.span.On() {
		return
	}
	outcome := metrics.OK
	if refusal != nil {
		outcome = string(refusal.Kind)
	}
	req.span.Set("jetway.outcome", outcome)
	if refusal != nil && refusal.Kind.Code() < 500 {
		err = nil // the asker's doing
	}
	req.span.End(err)
}

// replier answers requests.
type replier struct {
	nc  *nats.Conn
	log *slog.Logger
	// These are said once a second: away is what comes of a database or a bus that is away or not settled.
	overload, away, unsent tally
}

func newReplier(nc *nats.Conn, log *slog.Logger) replier {
	return replier{
		nc: nc, log: log,
		overload: tally{log: log, what: "refused requests for want of room"},
		away:     tally{log: log, what: "refused requests that cannot be settled now"},
		unsent:   tally{log: log, what: "cannot reply"},
	}
}

// close says what has not been said.
func (r *replier) close() {
	r.overload.say()
	r.away.say()
	r.unsent.say()
}

// ok answers with a payload. Where that is more than the server takes, the asker is told so: no
// reply is lost to its size (I7).
func (r *replier) ok(req *request, payload any) {
	data := messages.Encode(payload)
	if most := r.nc.MaxPayload(); int64(len(data)) > most {
		r.fail(req, messages.Errorf(messages.Internal, "the answer has %d bytes, and the NATS server takes %d (its max_payload): ask for less, or raise that", len(data), most))
		return
	}
	req.settled(nil, nil)
	r.send(req, &nats.Msg{Subject: req.reply, Data: data})
}

// note logs a refusal. What may happen to every one of very many requests is said once a second.
func (r *replier) note(subject string, refusal *messages.Error, err error) {
	level := slog.LevelInfo
	switch {
	case refusal.Kind == messages.Overloaded:
		r.overload.add(subject, refusal.ID, refusal)
		return
	case refusal.Kind == messages.Unavailable:
		r.away.add(subject, refusal.ID, err)
		return
	case refusal.Kind == messages.Internal:
		level = slog.LevelError
	case refusal.Kind.Code() >= 500:
		level = slog.LevelWarn
	}
	r.log.Log(context.Background(), level, "refused a request", "subject", subject, "id", refusal.ID, "kind", refusal.Kind, "err", err)
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
	req.settled(refusal, err)
	r.note(req.subject, refusal, err)
	r.send(req, &nats.Msg{
		Subject: req.reply,
		Data:    messages.Encode(refusal),
		Header: nats.Header{
			messages.HeaderError:     {messages.HeaderASCII(refusal.Message)},
			messages.HeaderErrorCode: {refusal.CodeString()},
		},
	})
}

func (r *replier) send(req *request, msg *nats.Msg) {
	if req.reply == "" {
		return // published, not requested: nobody listens
	}
	if err := r.nc.PublishMsg(msg); err != nil {
		r.unsent.add(req.subject, "", err)
	}
}
