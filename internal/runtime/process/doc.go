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
//     and when the process has ended, what is left of its group is killed.
//     A child that leaves the group (setsid) is out of reach: a backend must not do that.
//   - On Linux an agent that dies, however it dies, takes its processes along (the
//     parent-death signal), so that none goes on with a lease that nobody renews (I1).
//     That reaches the process itself; a wrapper script should therefore `exec` what
//     it wraps, so that no child is left. And no process can gain privileges by
//     executing something setuid, which would clear that signal. macOS has neither.
//   - Output is read whatever happens, so that a backend never hangs on a full pipe,
//     and passed on within limits per second, in bounded lines. What is over the limit
//     is dropped and counted (I8).
//   - A port is given to one instance at a time, and rests for a while afterwards, so
//     that a route that is still cached somewhere does not lead to another key's
//     backend. Between the choice of a port and the backend's listen another program
//     of the machine may take it; the backend then ends with its own error.
//
// Who closes what: the maker of a Runtime closes it. The Runtime owns one goroutine,
// tied to an OS thread, that forks; an instance owns three, which end before its
// Done is closed.
package process
