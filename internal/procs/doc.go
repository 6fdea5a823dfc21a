// Package procs knows processes of this machine that need not be children of this
// one, on Linux.
//
// What holds:
//
//   - A process is an [ID], its number and the time of its start: the kernel gives a
//     number anew, but not within the same hundredth of a second.
//   - A signal goes through a pidfd ([Ref]), which stays with the process that it was
//     opened for. It is opened first and the time of the start compared afterwards, so
//     that no signal ever reaches a process, or a group, that got the number later.
//   - What a process was started with is found in its environment ([Each]), as far as
//     this process may read it. A process that writes over its environment, or starts
//     children with another one, is not found by it.
//
// It is for whoever must end processes without having started them: a runtime that
// takes its processes over from an earlier agent, and the guard.
//
// Who closes what: a Ref is closed by whoever opened it. Nothing here runs on its own.
package procs
