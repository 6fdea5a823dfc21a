// Package bench measures a running stack beside two ceilings of the same run, so
// that the figures mean something on any machine:
//
//   - C1: NATS request and reply, 300 bytes, as many in flight as the connects.
//   - C2: the rows of a spawn, written by one bare multi-row statement.
//
// It brings a drone of its own with the fake runtime, in a cluster of its own, so
// that spawns measure the control plane and no other backend is touched. What it
// spawned it ends.
package bench
