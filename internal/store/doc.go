// Package store is all of Jetway's SQL. Postgres is the truth: every change of a
// backend's state is written together with the outbox row that tells of it, in
// one transaction, and what a transaction decides it decides on rows that it has locked.
// Each statement stands whole in a file of the folder sql, with its parameters explained.
//
// A drone's lease is one row: that of its session. A key's row says which backend holds
// the key, and the backend's which session it is in; so a key is held while the lease of that
// session lives, or, once it is sealed, until the end that it had then. What decides whether a
// lease has expired is the row of the session under its lock (I1): a renewal needs it
// unsealed and alive, and who takes a key from a session that has expired seals the session in the same
// transaction. Nothing moves expires_at back. The database's clock alone decides, as far as it can be
// trusted: see wallClock. A database that was restored, or failed over to, may have forgotten who holds a key: it is not
// believed before the drones have had a lease's time to say what they run: see home.go and the views "here" and "settled".
//
// All transactions lock in one order: sessions, keys, backends, and each of these by their
// names; so two cannot wait for each other. The rows of the outbox come last, and are
// not ordered; a transaction that Postgres ends all the same (deadlock, serialization) did
// nothing and is run again here.
//
// Hot statements are point look-ups by index over the arrays of a batch. Their
// plans are made once a connection and kept, perhaps while the tables are still
// empty; so they are written such that no other plan can look cheaper: "lateral …
// offset 0" and "exists (… offset 0)" keep a look-up from becoming a join over the
// whole table, "= any(array(…))" does it for updates, and none mentions ended_at,
// which would let a partial index be walked from end to end.
//
// Sleep is the backend's nap (package lifecycle). Hot statements read it with the row that they read anyway, and where it is odd a transition of its own
// wakes the backend: nothing is written for who is awake. See sleep.go for why a keepalive and a sweep cannot miss each other.
//
// The sweeps do walk along an index, which none but them can use for it says that due_at is finite: of what is due by when it is, as far as the
// present, skipping what others have locked. due_at is never later than the first thing
// that may be due, while what it waits for may have been put off without touching it
// (a renewed lease, a keepalive).
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
