// Package torture attacks the whole system with its own tests: real processes of
// every role, a NATS cluster of three nodes, Postgres, and between all of them links
// that fail; clients that collide on a few keys; and faults at random from a seed.
// Afterwards the invariants I1 to I8 are checked on what was recorded.
//
// There is nothing here but tests. `make torture DURATION=30m SEED=7` runs it for
// as long as one likes, `make test` a short form of it.
//
// Who watches: nothing of what is checked is believed because Jetway says so.
//
//   - The register (register_test.go) is told by each backend's process that it
//     has begun, and watches that process until it ends; it also takes the
//     backends' writes, and only with the newest fencing token.
//   - Triggers in the database (audit_test.go) note every lease and every status
//     that was ever committed.
//   - A listener on each NATS node notes every event, and the stream is read at the end.
//   - The clients note what they asked and what they were answered, from when to when.
//
// The checks (check_test.go, history_test.go) are about these four records alone.
//
// A harness that finds nothing proves nothing, so it is itself tested: deliberate
// bugs, compiled in by the build tag `mutants` (package mutant), must each be found.
package torture
