// Package lease decides who holds a key: connect's algorithm on batches, and the
// terms of a lease.
//
// A lease is a term issued by the database: its clock alone says when it ends.
// A drone bounds its trust by its own clock, counting from a time that it stated
// before the database wrote the lease, and gives up at 5/6 of the term. So a
// process is dead before its lease can go to another (I1), and no time of one
// machine is ever compared with another's.
//
// A batch becomes one statement that joins or one that spawns, or both where its keys are of
// both kinds. What they settle: the look-up, the
// takeover or acquisition in one locked row per key, and the rows that belong to
// it, all or nothing (I4). What is left to settle here: requests for one key are
// folded into one, and what a race left unsettled goes into the next round, which
// sees the other's commit. Nobody is told to try again.
//
// Tokens and their secrets are in the database such that who reads it cannot visit: of a token there is a hash, a secret opens with its
// token, and a static token, which is given again to who joins, is sealed with a key that the workers have ([Keys]).
//
// The package knows neither NATS nor SQL; it declares the store that it needs.
package lease
