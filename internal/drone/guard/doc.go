// Package guard keeps I1 while a drone's agent cannot: no process of a backend lives
// past the hard deadline of its lease, also when the agent is dead, stopped or hung.
//
// There are two sides. The agent writes down until when each of its backends may live,
// in the [Ledger], a file in the drone's data directory. The guard is a process of its
// own ([Run], `jetway guard`), which reads that file once a second and at every
// deadline, and kills what is past its hard deadline. The agent sees to it that a guard
// stands ([Start]) and takes no spawn before one does.
//
// What holds:
//
//   - A backend is in the ledger before anything of it can run, first without its
//     process, and until nothing of it runs. Renewing thousands is one write.
//   - The ledger means something in the boot that it was written in only, because its
//     deadlines are of that boot's clock. So it lives in the page cache, which survives
//     the agent: nothing waits for a disk. A page is written whole, slots do not cross
//     pages, and each has a checksum: of a slot that is half written nothing is taken.
//   - The guard kills the process group that the slot names, by pidfd and only if the
//     start time is right, and whatever of the drone's carries the backend's id in its
//     environment: children that left the group, containers, and a process that
//     the agent had no time to write down. It tries until nothing is left. It does not
//     kill on another boot's ledger, on a torn slot, or who got a number later.
//   - Soft deadlines are the agent's business; the guard only ever kills.
//   - The guard holds a lock. A newer agent starts its own guard, which asks the one
//     before to go, and takes over: so the newest program guards. A guard that no agent
//     needs any more, because the ledger has nothing left to end and no agent holds it,
//     goes by itself.
//
// Who closes what: the agent closes its Ledger last. The end of Start's context ends the
// watch over the guard, never the guard: it outlives the agent, which is what it is for.
//
// On macOS there is no guard, and nothing keeps I1 once the agent is gone: a drone on
// that system is for development.
package guard
