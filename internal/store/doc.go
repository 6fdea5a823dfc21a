// Package store is all of Jetway's SQL. Postgres is the truth: every change of a
// backend's state is written together with the outbox row that tells of it, in
// one statement, and what a statement decides it decides under the row's lock or
// the row's revision.
//
// Hot statements are point look-ups by index over the arrays of a batch. Their
// plans are made once a connection and kept, perhaps while the tables are still
// empty; so they are written such that no other plan can look cheaper: "lateral …
// offset 0" and "exists (… offset 0)" keep a look-up from becoming a join over the
// whole table, "= any(array(…))" does it for updates, and none mentions ended_at,
// which would let a partial index be walked from end to end. Rows are locked in the order of their keys,
// leases before backends, so that two statements cannot wait for each other; a
// statement that Postgres ends all the same (deadlock, serialization) did nothing
// and is run again here.
//
// The sweeps do walk along an index, which none but them can use for it says that due_at is finite: of what is due by when it is, as far as the
// present, skipping what others have locked. due_at is never later than the first thing
// that may be due, while what it waits for may have been put off without touching it
// (a renewed lease, a keepalive). Only a termination that a drone begins of its own
// accord, and a bound of starts shorter than a lease, are seen as late as the lease's end.
// Retention deletes by the same kind of walk, from the oldest on, in batches that are small enough for
// nobody to wait for them; what is locked is left to the next.
//
// Errors that come out are messages.Error of kind Unavailable when Postgres cannot
// be reached or takes no writes, and are never shown to a client otherwise. They come at once and not
// when each statement's time is over: beside the pool a link holds one session and asks it twice a
// second whether it can write. When it is silent for a second, and no host gives a new session either, all
// connections are cut, until one does (I8). What was being written then is decided by
// Postgres alone: it may be committed although the error says Unavailable.
//
// Sessions are read-write ones, at the host where the link has its own, and live for a minute; one that turns
// read-only ends all the others. What the database or the role sets by default is set anew in each (session.go), but for
// what the operator means for Jetway. Migrations wait for a table for no longer than a second at a time, for
// everybody else waits behind them.
//
// [Store.Close] closes the pool and the link; the caller owns it.
package store
