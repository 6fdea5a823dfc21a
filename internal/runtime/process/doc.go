// Package process is the runtime that runs executables of this machine.
//
//	{"command": ["room", "--flag"], "env": {"GREETING": "hello"}, "resource_limits": {"memory_limit_bytes": 67108864}}
//
// What holds:
//
//   - Only a regular, executable file below the operator's Root is ever run.
//     command[0] is a relative path below it; no `..`, no symlink and no setuid
//     bit leads out of it. Root must be writable only by people who may decide what is
//     run here.
//   - The process sees a clean environment: PATH, HOME and TMPDIR, what the request
//     gives, the SESSION_BACKEND_* variables, HOST and PORT, and the labels JETWAY_STATE and JETWAY_STATE_DIR.
//     Nothing of the agent's environment. Its standard input is empty. Its working directory
//     and HOME are a directory of its own, removed at its end.
//   - On Linux all that it starts is in one pen: a control group of its own (package cgroup),
//     into which it is cloned. When the process has ended, or is to end hard, all in there is
//     killed, and Done waits until the kernel says that it is empty (I1). Where no control
//     group can be made, what is in the pen is found by the labels in the environment, which
//     children inherit; one that clears it is out of reach.
//   - What sleeps is frozen: its control group, also where controllers are on cgroup v1; without one all that is found by the labels is stopped
//     (SIGSTOP). It ends by a hard termination, or by anybody's SIGKILL, at once. A group that somebody else thaws is told.
//   - It leads a process group of its own, which SIGTERM goes to. It cannot gain privileges,
//     with which it could not be killed.
//   - With Config.StateDir, on Linux, processes outlive the agent: nothing happens to
//     them when it dies, stops, or closes the Runtime, and the next run of the agent
//     adopts them, by their handle or by its copy in StateDir. Whoever sets it
//     sees to it that they end at their hard deadlines while no agent runs (I1; package
//     guard). What is signalled is the process that was started, never one that got its
//     number later.
//   - Otherwise they end with the Runtime, and on Linux also with an agent that dies,
//     however it dies (the parent-death signal), so that none goes on with a lease that
//     nobody renews (I1). That signal reaches the process itself; a wrapper script should
//     therefore `exec` what it wraps.
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
// Who closes what: the maker of a Runtime closes it. The Runtime owns two goroutines, each with
// an OS thread: one forks, one hears the output and the ends of all processes. An instance has
// one of its own only while an end is made of it, before its Done is closed.
package process
