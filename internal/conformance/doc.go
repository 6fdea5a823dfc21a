// Package conformance plays the workers' part to a drone or a proxy that somebody else wrote, and says line by line what
// it does as PROTOCOL.md has it. It needs NATS and nothing else: no Postgres, and no worker, which would answer too.
//
// The checks are a table ([DroneChecks], [ProxyChecks]): each has an id, a sentence of the protocol, the section that says it, the
// checks that it builds on, and a function that tries it. They run one after another against one run of what is tested,
// for most of them leave it as they found it. Beside them, every message that comes is read as strictly as a worker
// reads it, and in the order that the protocol wants; what is wrong with one fails the check that names it at the end.
//
// What the kit cannot see from the bus it does not judge, and says so: whether a drone that is killed comes back with its
// journal, and whether a process of a backend without an address has ended.
//
// [Drone] and [Proxy] return when all checks have been tried, or their context ends; then nothing of the kit is left on the
// NATS server but the streams.
package conformance
