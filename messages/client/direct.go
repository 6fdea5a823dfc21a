package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/jetway-project/jetway/messages"
)

// noStream is what direct get without anyone answering means.
func noStream(stream string) error {
	return messages.Errorf(messages.Unavailable, "the stream %s does not exist on this NATS server: has a worker run on it?", stream)
}

// directGet is a request to JetStream's direct get.
type directGet struct {
	Seq           uint64 `json:"seq,omitempty"`
	NextBySubject string `json:"next_by_subj,omitempty"`
	LastBySubject string `json:"last_by_subj,omitempty"`
	Batch         int    `json:"batch,omitempty"`
}

// nextInStream is JetStream's direct get of the first message of a subject at or
// after a place; nil when there is none. It is said here instead of by the
// client library because that asks for the stream's configuration first, which
// ten thousand watchers at once would queue for.
func nextInStream(ctx context.Context, nc *nats.Conn, stream, subject string, from uint64) (*nats.Msg, uint64, error) {
	msg, err := getDirect(ctx, nc, stream, directGet{Seq: max(from, 1), NextBySubject: subject})
	if err != nil || msg == nil {
		return nil, 0, err
	}
	seq, err := placeOf(msg)
	return msg, seq, err
}

// getDirect gets one message from a stream; nil when there is none.
func getDirect(ctx context.Context, nc *nats.Conn, stream string, what directGet) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	ask, err := json.Marshal(what)
	if err != nil {
		return nil, err
	}
	msg, err := nc.RequestWithContext(ctx, "$JS.API.DIRECT.GET."+stream, ask)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return nil, noStream(stream)
	case err != nil:
		return nil, unavailable(err)
	}
	switch code := msg.Header.Get("Status"); code {
	case "":
		return msg, nil
	case "404":
		return nil, nil
	default:
		return nil, fmt.Errorf("get from the stream %s: %s %s", stream, code, msg.Header.Get("Description"))
	}
}

// placeOf gives the place in its stream of a message that came by direct get.
func placeOf(msg *nats.Msg) (uint64, error) {
	seq, err := strconv.ParseUint(msg.Header.Get(jetstream.SequenceHeader), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("get from a stream: bad place in the reply: %w", err)
	}
	return seq, nil
}

// getBatch gets at most so many messages of a subject from a place in a stream on, and
// says whether there are more. A server before 2.11 gives one message at a time, and does
// not say.
func getBatch(ctx context.Context, nc *nats.Conn, stream, subject string, from uint64, most int) (msgs []*nats.Msg, more bool, err error) {
	ask, err := json.Marshal(directGet{Seq: max(from, 1), NextBySubject: subject, Batch: most})
	if err != nil {
		return nil, false, err
	}
	inbox := nc.NewInbox()
	// A channel that holds a batch and its end: by itself nats.go makes one of half a megabyte, for each.
	replies := make(chan *nats.Msg, most+2)
	sub, err := nc.ChanSubscribe(inbox, replies)
	if err != nil {
		return nil, false, unavailable(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := nc.PublishRequest("$JS.API.DIRECT.GET."+stream, inbox, ask); err != nil {
		return nil, false, unavailable(err)
	}
	for {
		var msg *nats.Msg
		select {
		case <-ctx.Done():
			return nil, false, unavailable(ctx.Err())
		case msg = <-replies:
		}
		if msg == nil {
			return nil, false, nats.ErrConnectionClosed
		}
		switch code := msg.Header.Get("Status"); code {
		case "":
		case "503": // nobody answers
			return nil, false, noStream(stream)
		case "204": // the end of the batch
			left, err := strconv.Atoi(msg.Header.Get("Nats-Num-Pending"))
			return msgs, err == nil && left > 0 && len(msgs) > 0, nil
		case "404":
			return msgs, false, nil
		default:
			return nil, false, fmt.Errorf("get from the stream %s: %s %s", stream, code, msg.Header.Get("Description"))
		}
		msgs = append(msgs, msg)
		if msg.Header.Get("Nats-Num-Pending") == "" {
			return msgs, true, nil
		}
	}
}
