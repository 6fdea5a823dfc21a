//go:build race

package testkit

// RaceDetector says that the tests run under the race detector, where memory is not measured:
// it takes several times as much.
const RaceDetector = true
