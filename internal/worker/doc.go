// Package worker answers requests: connect, what drones and proxies report and
// ask, and what operators want to know and end.
//
// The way of a request: the service's handler puts it into the queue of
// its lane and returns at once, for NATS calls one handler at a time; a queue that is full,
// in number or in bytes, is answered with Overloaded there and then (I8). A lane's runners take
// what is waiting, as one batch where the lane has batches. Who must not wait for whom has
// lanes of their own: neither a flood of connects nor one of listings costs a drone its
// leases, or a session its keepalive.
//
// Every request gets exactly one reply (I7), also when the answer is longer than the server takes, and its effect is decided by the
// store's statement alone. Rows that were committed go to the outbox relay, a
// report is answered only after its event is on the bus (I5).
//
// What time brings about is swept ([Config.SweepEvery]): a statement of the store finds
// what is due and puts it off for the other workers, so that every backend ends (I6)
// and each thing is done once. Nothing here runs per drone or per backend. What has ended is
// deleted in small batches once it is past [Config.Retain] (I8).
//
// What it does is counted, and where traces are on followed, in the replier and the
// lanes: every reply passes there, so none is missed. Whether it is alive (its lanes
// move) and ready (Postgres and NATS answer) is asked from outside, and changes
// nothing of what it does.
//
// A worker keeps no state that another one would need. [Run] owns everything
// that it starts, and ends in this order: take no more requests and sweep no more,
// hand back what waits and what still comes in, finish what was taken, flush the outbox.
// Handed back is to another worker, if one answers: the request goes to the same subject
// once more, with the asker's reply subject and the time that is left.
//
// What the bus loses is made again from Postgres: see worker.watchBus. What Postgres cannot
// do, for it is away, is refused at once: see package store. The caller owns the NATS
// connection and the store.
package worker
