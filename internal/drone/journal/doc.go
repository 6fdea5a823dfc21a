// Package journal is what a drone's agent remembers over its own death, and tells the guard: the
// backends that it looks after, the states that no worker has answered for yet, and until when
// its backends may live.
//
// Three things in the drone's data directory:
//
//   - `journal`, an append-only file: one line a record, with a checksum. Its first line says of
//     which version, drone, machine and boot it is. When most of it is of the past, what is still
//     needed is written to a new file, which takes its name.
//   - `lease`, one line of fixed size that is written in place: the deadlines of all backends but
//     those that have deadlines of their own in the journal ([State]).
//   - `secrets`, a folder: what a start needs and must not stay on a disk, one file a backend.
//
// What holds:
//
//   - What is noted is in the kernel's memory when the call returns, and outlives the agent.
//     Nothing is synced to the disk: nothing that an agent runs outlives the boot, and a journal
//     of another boot, or of another machine, says nothing about this one. It is begun anew.
//   - I3: [Journal.Take] is all or nothing. A spawn for which there is no room, not for what may
//     still be noted of it either, is refused at once: the room of a backend's whole life is
//     reserved where the file system can do that.
//   - I5: what [Journal.Note] notes is never refused. Where it cannot be written it is kept and
//     written later, before anything else; [Journal.Failing] tries, and says why it cannot.
//   - A damaged file locks nobody out. Records that are not what was written are left out, the
//     file is set aside under another name, and one line of the log says so. What the agent does
//     not know any more it finds by the labels of what runs, and ends.
//   - I8: what is kept is bounded by the backends and their unreported states.
//   - One agent at a time has a data directory, and one drone for good.
//
// A guard, which is another process, reads journal and lease with a [Reader].
//
// A nil Journal remembers nothing, and whatever is noted in it counts as written.
//
// Who closes what: who opens a Journal or a Reader closes it. They own no goroutines.
package journal
