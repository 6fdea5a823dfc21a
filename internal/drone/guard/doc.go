// Package guard keeps I1 while a drone's agent cannot: nothing of a backend lives past the hard
// deadline of its lease, also when the agent is dead, stopped or hung.
//
// There are two sides. The agent writes down what it runs and until when that may live, in its
// journal (see package journal). The guard is a process of its own ([Run], `jetway guard`), which
// looks into that once a second and at every deadline, and ends what is past its hard deadline.
//
// What holds:
//
//   - A backend is in the journal before anything of it can run, first without its process, and
//     until nothing of it runs.
//   - The guard ends a backend by all ways that there are: its cgroup, the process that the journal
//     names (by pidfd and only if the start time is right) with its group, whatever of the drone's
//     carries the backend's id in its environment, and, for containers, the engine ([Ender]), by
//     label and by name. It tries until nothing is left. It does not go by another boot's journal. What it has
//     read of a backend it keeps until that has ended, also when somebody puts another directory in the place of its own.
//   - It says once a second that it stands, in the file `guard`, and whether it could end what it
//     guards. The agent takes no spawn while no guard stands that could ([Post]): one that was
//     stopped or hangs says nothing, and does not stand.
//   - Soft deadlines are the agent's business; the guard only ever kills.
//   - Nothing depends on there being one guard: two end the same. One that is a service of its own
//     guards until it is told to go. One that the agent has started guards as long as the agent
//     lives, and after that as long as there is something to end, or until another guard stands that can know of all of it: so
//     the next agent's guard, the newest program, takes over from it.
//
// Who closes what: the end of Start's context ends the watch over the guard, never the guard: it
// outlives the agent, which is what it is for.
//
// On macOS there is no guard, and nothing keeps I1 once the agent is gone: a drone on
// that system is for development.
package guard
