// Package spares keeps instances of templates that a drone has started before anybody asked for them: a backend of the
// template becomes one of them (a claim), and is ready at once.
//
// A spare has an id of its own (spare-…), under which the runtime knows it, for as long as it runs. It has no key and no lease, and
// nobody is told its address. It does nothing until it is claimed.
//
// What holds:
//
//   - I1: a spare is claimed once. Who takes it is the only one that has it, and it never goes back. One that did not answer its claim as it
//     should is dead before the backend that it was to be is started anew: Claim returns an error only then.
//   - The pool writes nothing to the disk. What its agent has claimed is in that agent's journal, before the spare is told; whatever else an agent that
//     died has left is in no journal, so the next one finds it by its labels and ends it before it registers, as any stray of the runtime.
//   - I8: a template has as many spares as it asks for at most, and all together what real backends leave of the drone's capacity. For a backend
//     that finds too little left spares are ended before it is started.
//   - Few start at a time, and while somebody waits for a start, hardly any. One that dies, or is not fit to be claimed, is replaced after a pause that
//     grows, and the state of its template says why.
//
// Who closes what: who has called Run waits for its return. It ends all spares that are not claimed. An instance that was claimed is the claimer's.
package spares
