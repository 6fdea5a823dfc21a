// Package journal is what a drone's agent remembers over its own death: one small
// database file (bbolt) in the drone's data directory, with the backends that it looks
// after and the states that no worker has answered for yet.
//
// What holds:
//
//   - [Journal.Note] and [Journal.Answered] never wait: they may be called under a lock.
//     What they note is committed by one goroutine, all that has come up meanwhile in
//     one transaction, in the order of the calls. [Journal.Wait] waits for that. What
//     one Note says is committed as a whole or not at all.
//   - What was committed is there after a crash of the agent or of the machine. An
//     action is acknowledged (I3) and a state reported (I5) only then.
//   - A disk that is full, or fails, loses nothing that was noted while the agent lives:
//     it is tried again until it can be written. [Journal.Failing] says so meanwhile.
//     What is noted of one backend is kept once, so the memory that this takes is
//     bounded by the backends and their unreported states (I8).
//   - A file that cannot be read, or whose content is not what was written (each value
//     has a checksum; a page that is torn makes bbolt panic or fault), is set aside under
//     another name and a new one begun. Nothing of it is used.
//   - One agent at a time has a data directory, and one drone for good.
//
// What a start needs and must not stay on a disk, credentials of a registry, is in a
// file of its own beside the journal until the start has begun or was given up: of a drone
// that is never started again, for good.
//
// The deadlines of leases are not here: they change with each heartbeat, mean nothing
// in another boot, and live in the ledger of the guard.
//
// A nil Journal remembers nothing, and whatever is noted in it counts as committed.
//
// Who closes what: who opens a Journal closes it. It owns one goroutine.
package journal
