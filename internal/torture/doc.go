// Package torture attacks the whole system with its own tests: real processes of
// every role, a NATS cluster of three nodes, Postgres, and between all of them links
// that fail; clients that collide on a few keys; and faults at random from a seed: crashes,
// and what operators do (operations_test.go).
// Afterwards the invariants I1 to I8 are checked on what was recorded.
//
// There is nothing here but tests. `make torture DURATION=30m SEED=7` runs it for
// as long as one likes, `make test` a short form of it.
//
// Who watches: nothing of what is checked is believed because Jetway says so.
//
//   - The register (register_test.go) is told by each backend's process that it
//     has begun, and watches that process until it ends; it also takes the
//     backends' writes, and only with the newest fencing token. Who told it the kernel
//     says, so it sees into machines of their own, too.
//   - Triggers in the database (audit_test.go) note every key, status and state to be
//     published that was ever committed; each renewal that moves a lease's end back, or renews what
//     is sealed; and each key that was free while its session could still be renewed.
//   - A listener on each NATS node notes every event, and the stream is read at the end.
//   - Whether a backend sleeps its process says, by what it writes or does not: once the faults are over, each is to be as the database has it (sleep_test.go).
//   - The clients note what they asked and what they were answered, from when to when.
//
// Another machine under a drone's name (machine_test.go) is a network, a list of processes
// and a boot of its own, which takes root. The database's clock (dbclock_test.go) steps where
// libfaketime is installed. A failover that loses commits, and the restore of a dump, are done only where they are
// named (FAULTS='fail over,restore dump,kill'): what was granted, published or joined may be gone then, so only that no key
// has two processes, the fencing tokens, the ends and the bounds are checked.
//
// The checks (check_test.go, history_test.go) are about these four records alone.
//
// A harness that finds nothing proves nothing, so it is itself tested: deliberate
// bugs, compiled in by the build tag `mutants` (package mutant), must each be found.
package torture
