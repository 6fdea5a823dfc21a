// Package dev runs all of Jetway on one machine, in one process: an embedded
// NATS server, a private Postgres, one worker, one drone and one proxy. It is
// what `jetway dev` and the tests of the whole use.
//
// What holds:
//
//   - The data directory belongs to one stack at a time, by a lock on a file in
//     it. Nothing outside of it is written, and a stack started again on it goes
//     on with what it holds.
//   - Parts start in the order NATS, Postgres, worker, drone, proxy and stop in
//     the reverse one, each only after the one before. So a drone still reports
//     how its backends ended when it stops.
//   - A part that ends by itself ends the stack: [Stack.Done] is closed and
//     [Stack.Err] says which and why. Whoever started the stack still stops it.
//
// Who closes what: who calls [Start] calls [Stack.Stop]; it ends every process
// and goroutine that the stack began, also when its context is over, but then
// without asking them first. A Start that fails leaves nothing behind.
package dev
