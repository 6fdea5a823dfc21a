package store

import "time"

// What the tests of plans explain.
const (
	SweepSQL      = sweepSQL
	LostDronesSQL = lostDronesSQL
)

// SweepArgs are the arguments of SweepSQL.
func (s *Store) SweepArgs(startWithin time.Duration) []any { return s.sweepArgs(startWithin) }

// LostArgs are the arguments of LostDronesSQL.
func (s *Store) LostArgs() []any { return s.lostArgs() }
