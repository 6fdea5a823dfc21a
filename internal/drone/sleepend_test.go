package drone_test

import (
	"testing"

	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/fake"
	"github.com/jetway-project/jetway/messages"
)

// I6: what sleeps and is killed by somebody else is reported terminated, with how it ended, and later naps of it mean nothing.
func TestI6WhatIsKilledAsleepIsReported(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.begin()
	instance := b.ready("b-1", fake.Script{})
	b.nap("b-1", 1)
	b.says("b-1", 1, true)
	instance.End(runtime.Exit{Code: -1, Signal: "SIGKILL"})
	if end := b.end("b-1"); end.Kind != "" || end.Message != "ended by SIGKILL" || end.LastStatus != messages.Ready {
		t.Errorf("it ended %+v", end)
	}
	b.nap("b-1", 2)
	b.nap("b-1", 3)
	b.settled()
	if last := b.await("b-1", messages.Terminated); last[len(last)-1].Status != messages.Terminated {
		t.Errorf("after its end it is reported %v", last)
	}
}
