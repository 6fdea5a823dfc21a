package drone_test

import (
	"strings"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/drone"
	"github.com/jetway-project/jetway/internal/runtime/fake"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/messages"
)

func TestI8WhatGoesBeyondTheCapacityIsRefused(t *testing.T) {
	t.Parallel()
	h, _, _ := rig(t, func(c *drone.Config) {
		c.Capacity = messages.Capacity{MaxBackends: 3, MaxMemoryBytes: 1000, MaxCPUMillis: 1500}
	})
	if got := h.registered()[0].Capacity; got != (messages.Capacity{MaxBackends: 3, MaxMemoryBytes: 1000, MaxCPUMillis: 1500}) {
		t.Fatalf("registered %+v", got)
	}
	h.spawn("b-1", fake.Script{MemoryBytes: 600, CPUMillis: 1000}.Executable())
	h.await("b-1", messages.Ready)
	for id, c := range map[string]struct {
		script fake.Script
		says   string
	}{
		"b-memory": {fake.Script{MemoryBytes: 401}, "401 bytes of memory are asked for, of its 1000 (--max-memory) 600 are promised"},
		"b-cpu":    {fake.Script{CPUMillis: 501}, "0.501 processors are asked for, of its 1.5 (--max-cpus) 1 are promised"},
		"b-absurd": {fake.Script{MemoryBytes: 1<<63 - 1}, "--max-memory"},
	} {
		h.spawn(id, c.script.Executable())
		if got := h.end(id); got.Reason != messages.ReasonStartFailed || !strings.Contains(got.Message, c.says) {
			t.Errorf("%s ended as %+v", id, got)
		}
		h.set(func() {
			if !h.refused[id] {
				t.Errorf("%s may not be placed elsewhere", id)
			}
		})
	}
	h.spawn("b-2", fake.Script{MemoryBytes: 400, CPUMillis: 500}.Executable())
	h.spawn("b-3", fake.Script{}.Executable())
	h.await("b-3", messages.Ready)
	h.spawn("b-4", fake.Script{}.Executable())
	if got := h.end("b-4"); !strings.Contains(got.Message, "it takes 3 backends at most (--max-backends)") {
		t.Errorf("ended as %+v", got)
	}
	want := messages.Load{Backends: 3, MemoryBytes: 1000, CPUMillis: 1500}
	testkit.Eventually(t, "its load says all", func() bool { return h.lastHeartbeat().Load == want })
	// What ends gives back what it was promised.
	h.terminate("b-1", true)
	h.end("b-1")
	h.spawn("b-5", fake.Script{MemoryBytes: 600, CPUMillis: 1000}.Executable())
	h.await("b-5", messages.Ready)
}

func TestWorkersHearAtOnceThatADroneIsFullOrNot(t *testing.T) {
	t.Parallel()
	server := natstest.Server(t)
	h := newHub(t, server.URL())
	h.set(func() {
		h.everyMS, h.softMS, h.hardMS = time.Hour.Milliseconds(), 2*time.Hour.Milliseconds(), 3*time.Hour.Milliseconds()
	})
	start(t, server.URL(), fake.New(), func(c *drone.Config) { c.Capacity.MaxBackends = 2 }).awaitReady()
	loads := func(n int) {
		t.Helper()
		testkit.Eventually(t, "the load is heard", func() bool { return h.lastHeartbeat().Load.Backends == n })
	}
	h.spawn("b-1", fake.Script{}.Executable())
	h.spawn("b-2", fake.Script{}.Executable())
	loads(2)
	h.terminate("b-1", true)
	loads(1)
}

func TestI8PromisesOutliveTheAgent(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	limit := func(c *drone.Config) { c.Capacity.MaxMemoryBytes = 1000 }
	first := s.run(limit)
	first.awaitReady()
	s.spawn("b-1", fake.Script{MemoryBytes: 600}.Executable())
	s.await("b-1", messages.Ready)
	left(t, first)
	s.run(limit).awaitReady()
	if got := s.lastHeartbeat().Load; got != (messages.Load{Backends: 1, MemoryBytes: 600}) {
		t.Fatalf("load %+v", got)
	}
	s.spawn("b-2", fake.Script{MemoryBytes: 600}.Executable())
	if got := s.end("b-2"); !strings.Contains(got.Message, "600 are promised") {
		t.Fatalf("ended as %+v", got)
	}
}
