package certs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/jetway-project/jetway/messages"
)

const (
	lockPrefix = "locks/"
	// lockRenew is how often a lock is written anew by who holds it.
	lockRenew = 10 * time.Second
	// lockStale is for how long who waits must have seen one revision of a lock, by
	// his own clock, until he takes it: who held it is gone.
	lockStale = 30 * time.Second
	// That a lock was given back is heard before it can be read: for so long after it,
	// who waits looks so often.
	freedFor  = 2 * time.Second
	freedLook = 20 * time.Millisecond
	// operationHeader marks what is deleted in a bucket.
	operationHeader = "KV-Operation"
	// lockTry bounds each word to the server about a lock.
	lockTry = 3 * time.Second
)

// lock is one that this proxy holds.
type lock struct {
	name, key string
	mark      []byte // what it is written with; nobody else's is the same
	release   context.CancelFunc
	released  chan struct{} // closed when keep has ended; from then on:
	revision  uint64
	lost      bool
}

// Lock waits for a lock until ctx ends. It is certmagic's.
//
// Nobody's clock is compared with another's: who waits goes by what he sees and his own
// clock alone, and takes a lock over by the very revision that he saw.
func (s *storage) Lock(ctx context.Context, name string) error {
	l := &lock{name: name, key: encode(lockPrefix + name), mark: []byte(nuid.Next())}
	free := make(chan struct{}, 1)
	sub, err := s.nc.Subscribe(messages.CertsSubject(l.key), func(msg *nats.Msg) {
		if msg.Header.Get(operationHeader) == "" {
			return // written anew
		}
		select {
		case free <- struct{}{}:
		default:
		}
	})
	if err != nil {
		return fmt.Errorf("wait for the lock %s: %w", name, err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	// What was said while the bus was away nobody hears.
	back := s.nc.StatusChanged(nats.CONNECTED)
	defer s.nc.RemoveStatusListener(back)
	var seen uint64 // the revision under which another one holds it,
	var since, freed time.Time
	for {
		var holder uint64
		takeOver := seen != 0 && time.Since(since) >= s.staleAfter
		err := persist(ctx, func() (err error) {
			trying, cancel := context.WithTimeout(ctx, s.try) // the answer may be lost
			defer cancel()
			if takeOver {
				holder, err = 0, s.write(trying, l, seen)
				if !isTaken(err) {
					return err
				}
			}
			holder, err = s.tryLock(trying, l)
			return err
		}, func(err error) {
			s.log.WarnContext(ctx, "cannot reach the locks of certificates, trying again", "lock", name, "err", err)
		})
		if err != nil {
			return fmt.Errorf("wait for the lock %s: %w", name, err)
		}
		if holder == 0 {
			if takeOver {
				s.log.WarnContext(ctx, "took over the lock of a proxy that is gone", "lock", name)
			}
			s.hold(l)
			return nil
		}
		if holder != seen {
			seen, since = holder, time.Now()
		}
		wait := s.staleAfter - time.Since(since)
		if time.Since(freed) < freedFor {
			wait = min(wait, freedLook)
		}
		look := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-free:
			freed = time.Now()
		case _, ok := <-back:
			if !ok {
				back = nil // the connection is closed, as tryLock says
			}
		case <-look.C:
		}
		look.Stop()
		if ctx.Err() != nil {
			return fmt.Errorf("wait for the lock %s: %w", name, ctx.Err())
		}
	}
}

// tryLock takes the lock if nobody has it; otherwise it gives the revision under which
// somebody does.
func (s *storage) tryLock(ctx context.Context, l *lock) (holder uint64, err error) {
	for {
		entry, err := s.kv.Get(ctx, l.key)
		switch {
		case err == nil && string(entry.Value()) == string(l.mark):
			l.revision = entry.Revision() // the answer to an earlier try was lost
			return 0, nil
		case err == nil:
			return entry.Revision(), nil
		case !errors.Is(err, jetstream.ErrKeyNotFound):
			return 0, err
		}
		l.revision, err = s.kv.Create(ctx, l.key, l.mark)
		if !isTaken(err) {
			return 0, err
		}
	}
}

// write writes the lock anew, if it is at revision.
func (s *storage) write(ctx context.Context, l *lock, revision uint64) error {
	next, err := s.kv.Update(ctx, l.key, l.mark, revision)
	if err == nil {
		l.revision = next
	}
	return err
}

// isTaken says that somebody else was first.
func isTaken(err error) bool {
	const wrongLastSequenceOfReplica = 10164
	var refused *jetstream.APIError
	return errors.Is(err, jetstream.ErrKeyExists) || (errors.As(err, &refused) &&
		(refused.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || refused.ErrorCode == wrongLastSequenceOfReplica))
}

// hold keeps a lock until Unlock.
func (s *storage) hold(l *lock) {
	ctx, release := context.WithCancel(context.Background())
	l.release, l.released = release, make(chan struct{})
	s.mu.Lock()
	if s.held++; s.held == 1 {
		s.idle = make(chan struct{})
	}
	s.locks[l.name] = l
	s.mu.Unlock()
	go func() { // Unlock waits for it, and close for Unlock
		defer close(l.released)
		s.keep(ctx, l)
	}()
}

func (s *storage) keep(ctx context.Context, l *lock) {
	tick := time.NewTicker(s.renewEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		trying, cancel := context.WithTimeout(ctx, s.try)
		err := s.write(trying, l, l.revision)
		if isTaken(err) {
			holder, tryErr := s.tryLock(trying, l)
			l.lost = tryErr == nil && holder != 0
		}
		cancel()
		switch {
		case l.lost:
			s.log.WarnContext(ctx, "another proxy took a lock over: this one did not reach NATS for too long", "lock", l.name)
			return
		case err != nil && ctx.Err() == nil:
			s.log.WarnContext(ctx, "cannot keep a lock, trying again", "lock", l.name, "err", err)
			tick.Reset(min(s.try, s.renewEvery))
		default:
			tick.Reset(s.renewEvery)
		}
	}
}

// Unlock gives a lock back. It is certmagic's. What cannot be given back ends by itself.
func (s *storage) Unlock(ctx context.Context, name string) error {
	s.mu.Lock()
	l := s.locks[name]
	delete(s.locks, name) // before it is given back: another one of this proxy has it at once
	s.mu.Unlock()
	if l == nil {
		return fmt.Errorf("unlock %s: %w", name, fs.ErrNotExist)
	}
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.held--; s.held == 0 {
			close(s.idle)
		}
	}()
	l.release()
	<-l.released
	if l.lost {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.try)
	defer cancel()
	if err := s.giveBack(ctx, l); err != nil {
		return fmt.Errorf("unlock %s: %w", name, err)
	}
	return nil
}

// giveBack deletes a lock that is kept no more, unless it is another's by now.
func (s *storage) giveBack(ctx context.Context, l *lock) error {
	for {
		err := s.kv.Delete(ctx, l.key, jetstream.LastRevision(l.revision))
		if !isTaken(err) {
			return err
		}
		entry, err := s.kv.Get(ctx, l.key)
		switch {
		case errors.Is(err, jetstream.ErrKeyNotFound):
			return nil
		case err != nil:
			return err
		case string(entry.Value()) != string(l.mark):
			return nil
		}
		l.revision = entry.Revision() // it was written anew, and the answer was lost
	}
}

// close waits until no lock is held, at most limit.
func (s *storage) close(limit time.Duration) {
	s.mu.Lock()
	idle := s.idle
	s.mu.Unlock()
	select {
	case <-idle:
	case <-time.After(limit):
		s.log.Warn("stopping while certificates are being got; others can go on in a moment")
	}
}
