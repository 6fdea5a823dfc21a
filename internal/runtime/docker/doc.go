// Package docker is the drone's runtime for containers. It asks an engine through the
// official Go client of the Engine API, in the newest version of the API (1.40 or
// later) that both know.
//
// An executable has Plane's fields:
//
//	{
//	  "image": "registry.example.com/room:3",
//	  "pull_policy": "IfNotPresent",               // or "Always", "Never"
//	  "credentials": {"username": "…", "password": "…"},
//	  "env": {"NAME": "value"},
//	  "resource_limits": {
//	    "cpu_period": 100000,                      // µs, 100 ms if not given
//	    "cpu_period_percent": 50,                  // of the period: 100 is one processor
//	    "cpu_time_limit": 3600,                    // s of processor time per process
//	    "memory_limit_bytes": 268435456,           // swap included
//	    "disk_limit_bytes": 1073741824             // of the container's own layer
//	  },
//	  "mount": true,                               // or a folder's name in the mount base
//	  "network_name": "rooms"
//	}
//
// The container's program listens on port 8080 (PORT says so), which is published on
// a free port of one address of this machine. `mount` is /plane-data in the container.
// It runs with Docker's default capabilities, without gaining privileges (setuid
// programs have no effect), with a bounded number of processes, and is never restarted.
// As with `docker run`, the image's program is process 1: it has to handle SIGTERM, or
// is killed when the grace is over, unless the engine is configured to put an init
// before it (dockerd --init). The image's STOPSIGNAL is what a soft termination sends.
//
// What holds:
//
//   - The end of a container whose first process is on this machine is told by the kernel,
//     by a pidfd; that of another one by the engine, which is asked to wait for it, and now and
//     then whether it still runs: its word may be lost. A process that is gone while
//     the engine believes that it runs has ended. The
//     engine is then asked how it ended; if it does not answer, the kernel's exit code counts.
//   - A hard termination needs no engine where the engine is on this machine: the
//     container's first process is killed by its pidfd, and with it the kernel ends
//     all of the container (I1).
//   - What sleeps is paused, and the engine tells who was unpaused by somebody else. A hard termination ends a paused
//     container too: it is killed, and then thawed, where the engine does not answer by the file of its group: on cgroup v1 what is
//     killed while it is frozen does not end.
//   - Podman (4.3 or later, with its API's service, rootful or rootless) is as good as Docker.
//   - Start gives a running container or an error and none. When it cannot tell whether
//     a container started, it removes it, however long the engine is away (I1).
//   - Containers are named jetway-<backend id> and labelled with the drone, the backend,
//     its key and fencing token. By the labels a later agent finds them. Nothing is ever
//     done to a container without this drone's label, whatever its name.
//   - A container that has ended stays ended: one that somebody starts again is removed.
//   - A container that has ended is removed, with its anonymous volumes, RemoveAfter
//     after Done. The agent has put its end on record by then; if it died instead, the
//     next one finds the container and its exit code.
//   - Output goes through the engine's log, which keeps what is written while no agent
//     runs. How far it was read is noted in StateDir, before more is read: a killed
//     agent's successor goes on there. Both are bounded (I8): the log on the disk is
//     rotated, and a second's lines are limited as with every runtime.
//   - Pulls of one image with the same credentials are one pull, which ends when nobody
//     waits for it any more. Credentials are in the request to the engine and nowhere
//     else; that the agent keeps them until the pull is done is its own affair.
//   - No mount leads out of the mount base: each is one folder in it, whose own entry no
//     backend can write to.
//
// Who closes what: who calls New closes the Runtime, which ends its goroutines and
// leaves the containers. An Instance needs no closing.
package docker
