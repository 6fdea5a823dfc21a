package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/messages"
)

// Request asks and waits for the reply, telling the worker in the header how
// long. The error is a *messages.Error wherever a worker refused, none answered
// or NATS is away (kind Unavailable); otherwise that of ctx.
func Request[Resp any](ctx context.Context, nc *nats.Conn, subject string, req any) (Resp, error) {
	var resp Resp
	data, err := RequestRaw(ctx, nc, subject, messages.Encode(req))
	if err != nil {
		return resp, err
	}
	if err := json.Unmarshal(data, &resp); err != nil {
		return resp, fmt.Errorf("read the reply on %s: %w", subject, err)
	}
	return resp, nil
}

// RequestRaw is [Request] on bytes.
func RequestRaw(ctx context.Context, nc *nats.Conn, subject string, payload []byte) ([]byte, error) {
	msg := nats.NewMsg(subject)
	msg.Data = payload
	return RequestMsg(ctx, nc, msg)
}

// RequestMsg is [RequestRaw] of a message that may have headers of its asker's, such as [messages.HeaderTraceparent]. It is
// told there how long is waited.
func RequestMsg(ctx context.Context, nc *nats.Conn, msg *nats.Msg) ([]byte, error) {
	deadline, ok := ctx.Deadline()
	if !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, DefaultTimeout)
		defer cancel()
		deadline, _ = ctx.Deadline()
	}
	// A little less, so that a worker's last word still comes in time.
	left := time.Until(deadline)
	left -= min(left/10, 100*time.Millisecond)
	msg.Header.Set(messages.HeaderTimeout, max(left, time.Millisecond).Round(time.Millisecond).String())
	reply, err := nc.RequestMsgWithContext(ctx, msg)
	if err != nil {
		return nil, requestError(ctx, nc, msg, err)
	}
	return reply.Data, replyError(reply)
}

// replyError reads a micro error reply.
func replyError(reply *nats.Msg) error {
	code := reply.Header.Get(messages.HeaderErrorCode)
	if code == "" {
		return nil
	}
	refused := new(messages.Error)
	if err := json.Unmarshal(reply.Data, refused); err != nil || refused.Kind == "" {
		return messages.Errorf(messages.Internal, "%s (code %s)", reply.Header.Get(messages.HeaderError), code)
	}
	return refused
}

func requestError(ctx context.Context, nc *nats.Conn, msg *nats.Msg, err error) error {
	subject := msg.Subject
	switch {
	case errors.Is(err, nats.ErrMaxPayload):
		return messages.Errorf(messages.BadRequest, "the request on %s has %d bytes, and the NATS server takes %d (its max_payload)", subject, msg.Size(), nc.MaxPayload())
	case errors.Is(err, nats.ErrNoResponders):
		return messages.Errorf(messages.Unavailable, "no worker answers on %s: is one running?", subject)
	case errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, nats.ErrConnectionDraining):
		return fmt.Errorf("request on %s: %w", subject, err)
	case errors.Is(err, context.Canceled):
		return ctx.Err()
	case !nc.IsConnected():
		return messages.Errorf(messages.Unavailable, "the NATS server is away: %v", err)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		return messages.Errorf(messages.Unavailable, "no reply on %s in time", subject)
	}
	return messages.Errorf(messages.Unavailable, "request on %s: %v", subject, err)
}
