// Package drone is the agent of one machine: it runs backends for the workers,
// keeps its session's lease alive, and states what becomes of them.
//
// What holds:
//
//   - I1 exclusive: a process is dead before its key can go to another. All that a
//     session holds shares the session's [lease]; what is sealed (renewed no more) keeps
//     the deadlines that it had. The keeper compares deadlines with the time since boot at
//     least once a second, and nothing that may hang (the bus, the runtime) is ever waited for
//     under the agent's lock; the journal is written to the kernel's memory. What a registration's
//     answer calls lost is killed at once. `terminated`, which releases a key, is reported
//     after the end of everything the backend was. While the agent is dead or stopped the guard
//     keeps the deadlines: a backend is in the journal, which the guard reads, before it is started.
//   - A heartbeat renews the lease in one small message, however much is held, and waits
//     for nothing: not for a registration, nor for the consumer of actions. All that is
//     held is named, and compared with what the workers know, by the registration that
//     begins a session; it is repeated now and then. A database that was restored or failed over
//     knows no session that began before, so all that is held is compared then.
//   - An agent has its name, before it looks at anything that another one of the name may have:
//     see package identity. While the workers say that another machine has it, the agent ends
//     nothing before its deadlines do, and takes no actions. It acknowledges none that
//     may be a later session's: only its own, and what came before a worker has heard it
//     once more.
//   - I3 actions: an action is acknowledged after it has been journalled, which is to be in the
//     kernel's memory (see package journal), and a backend is spawned once however often and in
//     whatever order its actions come: those that ended, or were to end before they were spawned,
//     are remembered for longer than their spawn can be valid. That a start may have begun is journalled before it
//     does, so a later run of the agent looks for what it may have left, and starts only
//     what was not begun.
//   - I5 monotonic: a backend's states come from one pure function ([step]) and only go
//     up. They are journalled and queued in that order under the agent's lock, and kept until a worker has answered for them, however long that takes
//     and however often the agent is started anew.
//   - I8 bounded: what is held is bounded by the backends that were placed here, which the
//     drone's capacity bounds; output lines, ended backends, open probes and measurements
//     have bounds of their own.
//
// Runs of the agent follow each other. With a data directory and a runtime.Adopter a
// run leaves its backends behind, and the next takes them over before it registers: it
// adopts what the journal names, ends what it does not name or what is past its hard
// deadline, and waits for the end of that, because registration releases the leases of
// what it does not name (I1). What an earlier run was killed in the middle of goes
// on: see takeOver. Without either, the backends are ended with the agent.
//
// A backend sleeps (is frozen where it is) where an action with a greater nap than all before says so, and only while nothing speaks against
// it: when in doubt, awake. It is woken by what ends it, by somebody else's thaw, when no worker has been heard for two heartbeats, when the agent leaves, and when one
// starts; only a later nap puts it to sleep again. That it may be frozen is in the journal before it is, so nothing is left so by an agent that dies. The workers
// are told what is with each change, and once more of all when a session begins. A backend that sleeps costs the agent nothing: it is not asked, probed or measured.
//
// A backend of a template may be what was started ahead of it: see package spares. What is claimed is in the journal, under the id that
// it was started with, before it is told (I1). From then on it is a backend like any other. If the agent dies before it has heard that
// the claim was taken, the next run ends what was claimed, and starts the backend cold.
//
// While the journal cannot be written (a full disk), or no guard stands that could end what is
// started, what runs goes on and is renewed, spawns are refused for others to take, and the workers
// are told that the drone is not ready, and why.
//
// One mutex guards all that is known of the backends; what happens to one goes
// through agent.apply, which is a pure step and then its effects. Around it stand
// these goroutines, all waited for by [Run]: the keeper (deadlines), one that registers and
// one that heartbeats, the consumer (actions), the reporter (states), the publishers of output
// lines and of what backends use, the keeper of spares, and one per backend that starts it, or
// where the runtime does not tell of ends, waits for its end; and those that watch over the guard.
//
// Who closes what: whoever calls Run owns the connection and the runtime, and
// closes them after it. Run leaves nothing behind of what it started itself, but the
// backends that it is to leave, and their guard.
package drone
