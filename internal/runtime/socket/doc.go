// Package socket is the runtime of one's own: a server of the operator's runs the backends, as
// microVMs, in gVisor, on a cluster, and the drone asks it for that, in JSON over HTTP on a Unix
// socket. deploy/RUNTIME.md is the protocol, deploy/examples/runtime a server in Python.
//
// What holds:
//
//   - The server's word is the truth about what runs. An instance is done when the server has said
//     that it ended, or leaves it out of a listing; while the server is away nothing ends, as far
//     as is known, and Done waits (I1).
//   - Ends and output are pushed: one streaming response for all backends, JSON lines, which goes
//     on behind the last line that was taken, also under the next run of the agent (its mark is
//     noted in StateDir). Each stream begins with what was missed and a listing of all that there is.
//   - When it is not sure whether a backend was started, Start has it ended before it returns, for
//     as long as that takes. A hard end also forbids a later start of the same id, so a request
//     that was still under way somewhere starts nothing (I1).
//   - Nothing is started while the stream is down: [Runtime.Away] says why, and the drone takes no
//     spawns then. A stream on which nothing, not even its keepalive, has come for Silence is down.
//   - Whatever the server sends costs bounded memory: answers, lines and the output of a second
//     have limits (I8). Every request but prepare and start, which their contexts bound, is given
//     up after a few seconds.
//   - Backends sleep where the server says, with its listing, that it can have them. One that a listing, or a
//     later line, calls awake is: the drone hears so.
//   - The end of a backend stays on the server's record until ForgetAfter: the agent has journalled
//     it by then; if it died instead, the next one finds it there.
//
// The order of a run of the agent matters: it adopts what it remembers and then calls Find once,
// which opens the stream. So no line comes for a backend that is still to be adopted.
//
// Who closes what: who calls New closes the Runtime, which ends its goroutines and leaves the
// backends. An Instance needs no closing.
package socket
