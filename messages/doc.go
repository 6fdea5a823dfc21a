// Package messages is what Jetway says on the bus: subjects, payloads, their
// validation and the kinds of errors. PROTOCOL.md beside this file is the same
// in prose.
//
// It knows neither NATS nor Postgres, so that anything that speaks the protocol
// can use it. Two rules hold by construction:
//
//   - What [Decode] returns is valid: every name in it may become part of a
//     subject, every text fits its column. Nothing behind it checks again.
//   - Subjects are put together and taken apart here only.
//
// Unknown fields are ignored, so that older readers understand newer writers.
// Durations carry their unit in the field's name. Times are RFC 3339 and for
// people: nothing is ever decided by comparing them (design, section 4).
package messages
