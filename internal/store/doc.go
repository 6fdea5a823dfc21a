// Package store is all of Jetway's SQL. Postgres is the truth: every change of a
// backend's state is written together with the outbox row that tells of it, in
// one statement, and what a statement decides it decides under the row's lock or
// the row's revision.
//
// Hot statements are point look-ups by index over the arrays of a batch, so the
// plans are made once and kept (plan_cache_mode, and no sequential scans), and do
// not flip with the statistics. Rows are locked in the order of their keys,
// leases before backends, so that two statements cannot wait for each other; a
// statement that Postgres ends all the same (deadlock, serialization) did nothing
// and is run again here.
//
// Errors that come out are messages.Error of kind Unavailable when Postgres cannot
// be reached, and are never shown to a client otherwise. [Store.Close] closes the
// pool; the caller owns it.
package store
