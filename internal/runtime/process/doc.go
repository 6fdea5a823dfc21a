// Package process is the runtime that runs executables of this machine.
//
//	{"command": ["room", "--flag"], "env": {"GREETING": "hello"}}
//
// What holds:
//
//   - Only a regular, executable file below the operator's Root is ever run.
//     command[0] is a relative path below it; no `..`, no symlink and no setuid
//     bit leads out of it, and the dynamic linker takes no orders from the request.
//     Root must be writable only by people who may decide what is run here.
//   - The process sees a clean environment: PATH, HOME and TMPDIR, what the request
//     gives, the SESSION_BACKEND_* variables and PORT, which the request cannot set.
//     Nothing of the agent's environment. Its standard input is empty and its
//     working directory is Config.Dir.
//   - It leads a process group of its own. SIGTERM and SIGKILL go to the whole group,
//     and when the process has ended, what is left of its group is killed. It cannot gain
//     privileges, with which it could not be killed.
//   - With Config.StateDir, on Linux, processes outlive the agent: nothing happens to
//     them when it dies, stops, or closes the Runtime, and the next run of the agent
//     adopts them, by their handle or by the labels in their environment: the drone's name
//     and the number of StateDir, so that a drone of the same name is another one. Whoever sets it
//     sees to it that they end at their hard deadlines while no agent runs (I1; package
//     guard). What is signalled is the process that was started, never one that got its
//     number later. Children that left the group (setsid) are found by the labels, which
//     they inherit, and killed when the process has ended; one that also changed its
//     environment is out of reach: a backend must not do that.
//   - Otherwise they end with the Runtime, and on Linux also with an agent that dies,
//     however it dies (the parent-death signal), so that none goes on with a lease that
//     nobody renews (I1). That signal reaches the process itself; a wrapper script should
//     therefore `exec` what it wraps. Children that left the group are out of reach.
//   - Output is read whatever happens, so that a backend never hangs on a full pipe,
//     and passed on within limits per second, in bounded lines. What is over the limit
//     is dropped and counted (I8). While no agent runs nobody reads: it is kept in the
//     pipe, a FIFO in StateDir of which the process holds both ends, and once 64 KiB
//     are unread a write waits for the next agent. What is unread when the process
//     ends is lost then.
//   - The exit code of a process that an earlier run of the agent started is what the
//     kernel keeps for whoever watches it (Linux 6.15), or what can be read before it is
//     reaped. Where neither works, the code is -1 and the message says so.
//   - A port is given to one instance at a time, and rests for a while afterwards, so
//     that a route that is still cached somewhere does not lead to another key's
//     backend. Ports are from 20000 to 32767, which systems give to nobody by
//     themselves, and agents of one machine claim them (on Linux): what got a port
//     between its choice and the backend's listen would be taken for the backend. A
//     program that insists on one can still; the backend then ends with its own error.
//
// Who closes what: the maker of a Runtime closes it. The Runtime owns one goroutine,
// tied to an OS thread, that forks; an instance owns three, which wait in the poller and
// end before its Done is closed, or when the Runtime lets go of it.
package process
