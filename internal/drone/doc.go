// Package drone is the agent of one machine: it runs backends for the workers,
// keeps their leases alive, and states what becomes of them.
//
// What holds:
//
//   - I1 exclusive: a process is dead before its lease can go to another. The keeper
//     compares the leases' deadlines with the time since boot at least once a second
//     while anything is held, and nothing that may hang (the bus, the runtime) is ever
//     waited for under the agent's lock. A lease that is refused is a process killed at
//     once. `terminated`, which releases a lease, is reported after the end of
//     everything the backend was.
//   - I3 actions: an action is acknowledged after it has been taken in, and a backend is
//     spawned once however often and in whatever order its actions come: those that
//     ended, or were to end before they were spawned, are remembered for longer than
//     their spawn can be valid.
//   - I5 monotonic: a backend's states come from one pure function ([step]) and only go
//     up. They are queued in that order under the agent's lock and kept until a worker
//     has answered for them, however long that takes.
//   - I8 bounded: what is held is bounded by the backends that were placed here; output
//     lines, ended backends and open probes have bounds of their own.
//
// One mutex guards all that is known of the backends; what happens to one goes
// through agent.apply, which is a pure step and then its effects. Around it stand
// these goroutines, all waited for by [Run]: the keeper (deadlines), the session
// (registration, heartbeats), the consumer (actions), the reporter (states), the
// publisher of output lines, and one per backend that starts it and waits for its end.
//
// Who closes what: whoever calls Run owns the connection and the runtime, and
// closes them after it. Run leaves nothing behind of what it started itself.
package drone
