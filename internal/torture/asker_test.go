//go:build linux

package torture_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/messages"
)

// asker asks over links that fail, and counts the replies: each request must get one at most (I7).
type asker struct {
	nc    *nats.Conn
	inbox string

	mu      sync.Mutex
	waiting map[string]chan *nats.Msg
	replies map[string]int
}

func newAsker(t *testing.T, s *system) *asker {
	t.Helper()
	var urls []string
	for _, link := range s.asking {
		urls = append(urls, "nats://"+link.Addr())
	}
	a := &asker{inbox: "_INBOX.torture." + nuid.Next(), waiting: map[string]chan *nats.Msg{}, replies: map[string]int{}}
	a.nc = natstest.Conn(t, strings.Join(urls, ","), nats.RetryOnFailedConnect(true), nats.Name("torture"))
	if _, err := a.nc.Subscribe(a.inbox+".*", a.reply); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *asker) reply(msg *nats.Msg) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.replies[msg.Subject]++
	if waiting := a.waiting[msg.Subject]; waiting != nil && a.replies[msg.Subject] == 1 {
		waiting <- msg
	}
}

// outcome is how a request ended for the one who asked.
type outcome int

const (
	granted outcome = iota
	refused         // and, says I4, without an effect
	unknown         // no reply, or one that does not say whether there was an effect
)

func (o outcome) String() string { return [...]string{"granted", "refused", "unknown"}[o] }

// ask sends a request and waits for its reply.
func (a *asker) ask(ctx context.Context, subject string, req any, timeout time.Duration) ([]byte, *messages.Error, outcome) {
	msg := nats.NewMsg(subject)
	msg.Data, msg.Reply = messages.Encode(req), a.inbox+"."+nuid.Next()
	msg.Header.Set(messages.HeaderTimeout, timeout.String())
	replied := make(chan *nats.Msg, 1)
	a.mu.Lock()
	a.waiting[msg.Reply] = replied
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		delete(a.waiting, msg.Reply)
		a.mu.Unlock()
	}()
	ctx, cancel := context.WithTimeout(ctx, timeout+time.Second)
	defer cancel()
	if err := a.nc.PublishMsg(msg); err != nil {
		return nil, nil, unknown
	}
	var answer *nats.Msg
	select {
	case answer = <-replied:
	case <-ctx.Done():
		return nil, nil, unknown
	}
	switch {
	case answer.Header.Get("Status") == "503": // nobody there to hear it
		return nil, &messages.Error{Kind: "NoResponders"}, refused
	case answer.Header.Get(messages.HeaderError) == "":
		return answer.Data, nil, granted
	}
	var refusal messages.Error
	if err := json.Unmarshal(answer.Data, &refusal); err != nil {
		return nil, &messages.Error{Kind: messages.Internal, Message: "not an error: " + string(answer.Data)}, unknown
	}
	switch refusal.Kind {
	case messages.Unavailable, messages.Internal:
		return nil, &refusal, unknown // the database may have committed before it was lost
	}
	return nil, &refusal, refused
}

// twice are the requests that got more than one reply.
func (a *asker) twice() (wrong []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for inbox, n := range a.replies {
		if n > 1 {
			wrong = append(wrong, fmt.Sprintf("I7: a request got %d replies (at %s)", n, inbox))
		}
	}
	return wrong
}
