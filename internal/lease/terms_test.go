package lease_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/jetway-project/jetway/internal/lease"
)

// I1: a drone that judges by a time stated before the lease was written has
// killed its process before the lease ends, and heard of every step in time.
func TestI1DeadlinesLieInOrderBeforeTheEndOfTheLease(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		terms := lease.Terms{TTL: time.Duration(rapid.Int64Range(int64(time.Second), int64(time.Hour)).Draw(t, "ttl"))}
		if err := terms.Validate(); err != nil {
			t.Fatal(err)
		}
		stated := rapid.Int64Range(0, 100*366*24*3600*1000).Draw(t, "drone time")
		d, end := terms.Deadlines(stated), stated+terms.TTL.Milliseconds()
		if stated >= d.RenewAtMS || d.RenewAtMS >= d.SoftTerminateAtMS || d.SoftTerminateAtMS >= d.HardTerminateAtMS || d.HardTerminateAtMS >= end {
			t.Fatalf("stated at %d, %+v, the lease ends at %d", stated, d, end)
		}
		if soft := time.Duration(d.SoftTerminateAtMS-stated) * time.Millisecond; terms.FreshWithin() >= soft || terms.RenewEvery() >= terms.FreshWithin() {
			t.Fatalf("renewed every %s, fresh within %s, soft deadline after %s", terms.RenewEvery(), terms.FreshWithin(), soft)
		}
	})
}
