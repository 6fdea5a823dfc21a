// Package cgroup holds each backend of a drone in a control group of its own, on Linux.
//
// What holds:
//
//   - A process is put into its [Group] by the clone that makes it, and its children are
//     born there: nothing of a backend is ever outside, whatever it does to its
//     environment, its session or its parents (I1). A backend whose user may write to
//     cgroup files could move itself; give backends a user of their own.
//   - [Kill] ends all of a group, also what forks meanwhile or is frozen: it is the kernel's
//     cgroup.kill, one write. "Nothing of it runs" is the kernel's word in cgroup.events,
//     for which [Group.Wait] waits without searching.
//   - [Group.Freeze] stops all of a group where it is, also where controllers are on v1, for the kernel's
//     cgroup.freeze needs none. Who uses an engine that freezes by a controller of v1 has [ThawV1] for
//     what was killed meanwhile.
//   - [Limits] hold from the first instruction. What this machine cannot limit is an error
//     of [Base.Make], and never a limit that means nothing.
//
// It takes the unified hierarchy (v2) of Linux 5.14 or later. The controllers may be on v1
// hierarchies beside it, as on older hosts ("hybrid"): then limits are there. Such a process
// gets into its v1 groups by the thread that forks it, see [Group.Enter].
//
// Where groups are made ([Open]): below the parent that the operator names; else in the
// unit's own group, where systemd delegates it; else, for root, in /jetway. Controllers are
// enabled only where no process is in the way, so in a unit they need DelegateSubgroup=agent.
//
// Who closes what: a Base holds nothing open. A Group is removed by who made it, once empty.
package cgroup
