// Package outbox carries committed rows to the bus.
//
// Every state and every action is written to the outbox in the transaction that
// causes it, and published right after the commit by the worker that made it: a
// backend's states before the actions that they cause, each acknowledged before
// the next. A crash in between loses nothing (I3, I5): the rows stay, and any
// worker's [Relay] picks up what is overdue.
//
// States leave the outbox when the bus has acknowledged them; actions when their
// drone has shown, by what it reports, that it took them. So NATS may lose all
// that it holds. What is published twice has the same Nats-Msg-Id, and readers
// go by the state's number and the backend's id.
package outbox
