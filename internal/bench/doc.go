// Package bench measures a running stack beside ceilings of the same run, so that
// the figures mean something on any machine.
//
// [Connect] measures the connect path beside:
//
//   - C1: NATS request and reply, 300 bytes, 64 in flight, however many the loads have.
//   - C2: the rows of a spawn, written by a bare multi-row statement, two of 64 at once as a worker has them.
//
// [Proxy] measures the data path: the same load on the same backend directly,
// through nginx and through Jetway's proxy. Backend, nginx and proxy are processes
// of their own. The load is made by this process, with the same code for all three:
// blocking reads and writes of ready-made bytes on plain connections, and a
// response's head scanned for its status and length, without an allocation. Per
// request this costs one write, mostly two reads (the first finds nothing yet) and
// two switches of goroutines: together with the like of the backend less than half
// of what a proxy, which does all that twice, can cost. Load and backend do share
// the machine's cores with the proxy, which flatters the slower proxy a little; so
// the CPU time that the proxy itself spent for one request is measured as well.
// Loads are taken in short turns that alternate between the three, and who comes first changes, so that what
// else the machine does meets all of them. A ratio to nginx is the median of the turns' ratios.
//
// [Start] measures starts, from the request to the backend's first answer over HTTP, one
// after another, beside the same program without Jetway: executed by itself, and as a
// container of the same image by `docker run`. The four take turns, and each is ended
// before the next begins.
//
// [Heartbeat] measures what the heartbeats of drones with many backends cost, beside the
// same stack without them, and while a snapshot of the database is held.
//
// [MeasureBeside] measures two builds in alternating turns, each with a stack of its own. It knows
// of the other build no more than the command line and what connect requests and
// events look like; drones are its own.
//
// The benches bring drones of their own, in clusters of their own, so that no other
// backend is touched; all but Start have some with the fake runtime, so that spawns
// measure the control plane. What they spawned on a running stack they end.
package bench
