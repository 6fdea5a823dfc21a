package store

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
)

// ClockJumped has the clock of the database have jumped since it was looked at.
func (s *Store) ClockJumped(by time.Duration) {
	s.clock.mu.Lock()
	defer s.clock.mu.Unlock()
	for i := range s.clock.looks {
		s.clock.looks[i].then = s.clock.looks[i].then.Add(-by)
	}
}

// ClockSettled is when a lease's time has passed since a jump.
func (s *Store) ClockSettled() {
	s.clock.mu.Lock()
	defer s.clock.mu.Unlock()
	s.clock.quiet = 0
}

// Seal has backends renewed no more, as those that were to be killed and have not gone.
func (s *Store) Seal(ctx context.Context, ids ...string) error {
	due := make([]Due, len(ids))
	for i, id := range ids {
		due[i] = Due{BackendID: id, Cause: CauseStuck}
	}
	return s.seal(ctx, due)
}

// HomeWaited is when a lease's time has passed since a store began to wait in its home.
func (s *Store) HomeWaited() {
	s.home.mu.Lock()
	defer s.home.mu.Unlock()
	s.home.since -= s.home.wait
}

// DiskReplaced has the database's log have had more on disk than it has.
func (s *Store) DiskReplaced() {
	s.home.mu.Lock()
	defer s.home.mu.Unlock()
	s.home.last.flushed += 1 << 40
}

// Settled says whether the database is believed: it is neither restored nor failed over, or long enough ago.
func (s *Store) Settled(ctx context.Context) (settled bool, err error) {
	err = s.pool.QueryRow(ctx, "select true from settled").Scan(&settled)
	if errors.Is(err, pgx.ErrNoRows) {
		err = nil
	}
	return settled, wrap("ask whether the database is settled", err)
}

// Waits is for how long the store believes nobody in its home, and after a jump.
func (s *Store) Waits() (home, jump time.Duration) {
	s.home.mu.Lock()
	defer s.home.mu.Unlock()
	s.clock.mu.Lock()
	defer s.clock.mu.Unlock()
	return s.home.wait, s.clock.quiet - s.clock.now()
}

// LoweredLongAgo is when the leases have ended that were given before the time to live was lowered.
func (s *Store) LoweredLongAgo() { s.lowered.since -= time.Hour }
