package certs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/messages"
)

const (
	// presentTimeout is how long DNS servers may take to answer with a value, or to be there.
	presentTimeout = time.Minute
	// replyTimeout is how long the first of them may take to say so, and repliesQuiet how
	// long nobody must have said so for there to be no more. How many there are nobody knows.
	replyTimeout = 5 * time.Second
	repliesQuiet = 250 * time.Millisecond
)

// dnsSolver has DNS servers on the bus answer what the authority asks.
type dnsSolver struct {
	nc      *nats.Conn
	log     *slog.Logger
	started *nats.Subscription

	mu   sync.Mutex
	open map[messages.Challenge]struct{}
	wake chan struct{} // closed, and another one made, when a DNS server may be there that was not
}

var _ acmez.Solver = (*dnsSolver)(nil)

// newDNSSolver makes a solver that listens to DNS servers until its run has ended.
func newDNSSolver(nc *nats.Conn, log *slog.Logger) (*dnsSolver, error) {
	s := &dnsSolver{nc: nc, log: log, open: make(map[messages.Challenge]struct{}), wake: make(chan struct{})}
	var err error
	if s.started, err = nc.Subscribe(messages.SubjectDNSStarted, func(*nats.Msg) { s.again() }); err != nil {
		return nil, fmt.Errorf("listen to DNS servers: %w", err)
	}
	return s, nil
}

// run tells DNS servers again what they may have missed, until ctx ends.
func (s *dnsSolver) run(ctx context.Context) {
	defer func() { _ = s.started.Unsubscribe() }()
	back := s.nc.StatusChanged(nats.CONNECTED)
	defer s.nc.RemoveStatusListener(back)
	for {
		select {
		case <-ctx.Done():
			return
		case _, ok := <-back:
			if !ok {
				return
			}
			s.again()
		}
	}
}

// again presents what is open once more.
func (s *dnsSolver) again() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.wake)
	s.wake = make(chan struct{})
	for challenge := range s.open {
		if err := s.nc.Publish(messages.SubjectDNSPresent, messages.Encode(challenge)); err != nil {
			s.log.Debug("cannot present a challenge again", "domain", challenge.Domain, "err", err)
		}
	}
}

func challengeOf(c acme.Challenge) messages.Challenge {
	return messages.Challenge{Domain: c.Identifier.Value, Value: c.DNS01KeyAuthorization()}
}

// Present has the value answered, and waits until it is. It is acmez's.
func (s *dnsSolver) Present(ctx context.Context, c acme.Challenge) error {
	ctx, cancel := context.WithTimeout(ctx, presentTimeout)
	defer cancel()
	challenge := challengeOf(c)
	s.mu.Lock()
	s.open[challenge] = struct{}{}
	s.mu.Unlock()
	for {
		s.mu.Lock()
		wake := s.wake
		s.mu.Unlock()
		servers, err := s.ask(ctx, challenge)
		if len(servers) > 0 {
			s.log.InfoContext(ctx, "DNS servers answer a challenge", "domain", challenge.Domain, "dns", servers)
			return nil
		}
		late := time.NewTimer(replyTimeout)
		select {
		case <-wake: // somebody is there now
		case <-late.C: // or was, and too slow
		case <-ctx.Done():
			s.close(challenge)
			return fmt.Errorf("no DNS server answers _acme-challenge.%s (is a `jetway dns` with its zone running?): %w",
				challenge.Domain, errors.Join(err, ctx.Err()))
		}
		late.Stop()
	}
}

// ask asks all DNS servers, and gives those that answer with the value from now on. The
// error is why others do not.
func (s *dnsSolver) ask(ctx context.Context, challenge messages.Challenge) (servers []string, err error) {
	inbox := s.nc.NewInbox()
	replies, err := s.nc.SubscribeSync(inbox)
	if err != nil {
		return nil, err
	}
	defer func() { _ = replies.Unsubscribe() }()
	if err := s.nc.PublishRequest(messages.SubjectDNSPresent, inbox, messages.Encode(challenge)); err != nil {
		return nil, err
	}
	wait := replyTimeout
	for {
		waiting, cancel := context.WithTimeout(ctx, wait)
		msg, nextErr := replies.NextMsgWithContext(waiting)
		cancel()
		if nextErr != nil {
			if err == nil && len(servers) == 0 {
				err = nextErr
			}
			return servers, err
		}
		wait = repliesQuiet
		var by messages.Presented
		switch {
		case len(msg.Data) == 0 && msg.Header.Get("Status") == "503":
			return nil, nats.ErrNoResponders
		case msg.Header.Get(messages.HeaderError) != "":
			err = errors.New(msg.Header.Get(messages.HeaderError))
		case json.Unmarshal(msg.Data, &by) == nil && by.Server != "":
			servers = append(servers, by.Server)
		}
	}
}

// CleanUp has the value no longer answered. It is acmez's. Should the word be lost, the
// value ends by itself.
func (s *dnsSolver) CleanUp(_ context.Context, c acme.Challenge) error {
	s.close(challengeOf(c))
	return nil
}

func (s *dnsSolver) close(challenge messages.Challenge) {
	s.mu.Lock()
	delete(s.open, challenge)
	s.mu.Unlock()
	if err := s.nc.Publish(messages.SubjectDNSRemove, messages.Encode(challenge)); err != nil {
		s.log.Debug("cannot remove a challenge", "domain", challenge.Domain, "err", err)
	}
}
