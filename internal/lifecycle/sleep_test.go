package lifecycle_test

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/jetway-project/jetway/internal/lifecycle"
	"github.com/jetway-project/jetway/messages"
)

var at = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

// sleeper is a backend with its drone, its bus and its visitors, as far as sleep goes. The bus delivers each action at least once, in any order, and
// reports in any order, too.
type sleeper struct {
	workers lifecycle.Backend
	// kept is what the database was restored from, with what was on record then.
	kept        lifecycle.Backend
	keptActions []messages.Action

	// The drone: what it has applied, whether the process is frozen, and that it was told to end it.
	nap    int64
	frozen bool
	ending bool

	actions []messages.Action     // on record; those that a report has shown to be taken are off it
	late    []messages.Action     // copies, that may come after that
	reports []lifecycle.Reported  // not yet taken in
	events  []messages.SleepEvent // as they were written
	waiting bool                  // a visitor waits for an answer
}

func (s *sleeper) step(t *rapid.T, e lifecycle.Event) {
	reported, _ := e.(lifecycle.Reported)
	before := s.workers
	next, a := lifecycle.Step(before, e)
	if next.Nap < before.Nap {
		t.Fatalf("%#v takes nap %d back to %d", e, before.Nap, next.Nap)
	}
	if next.Asleep() && (!next.MaySleep() || !a.Nap && !before.Asleep()) {
		t.Fatalf("%#v leaves it asleep as %+v (told: %t)", e, next, a.Nap)
	}
	if _, asked := e.(lifecycle.SleepAsked); !asked && next.Asleep() && !before.Asleep() {
		t.Fatalf("%#v puts it to sleep", e)
	}
	if a.Nap {
		s.actions = append(s.actions, messages.NewNapAction("b", at, next.Nap))
		s.events = append(s.events, messages.NewSleepEvent("b", at, next.Nap))
	}
	if a.Terminate != nil {
		s.actions = append(s.actions, messages.Action{Type: messages.TypeTerminate})
	}
	kept := s.actions[:0]
	for _, action := range s.actions {
		taken := action.Nap <= reported.Nap.Nap
		if action.Nap == 0 || next.Status.Leaving() {
			taken = next.Status.Leaving()
		}
		if taken {
			s.late = append(s.late, action)
		} else {
			kept = append(kept, action)
		}
	}
	s.actions, s.workers = kept, next
}

// apply is what the drone does with an action, however often it comes.
func (s *sleeper) apply(a messages.Action) {
	switch {
	case a.Type == messages.TypeTerminate:
		s.ending, s.frozen = true, false
		s.reports = append(s.reports, lifecycle.Reported{State: messages.State{Status: messages.Terminating}})
		return
	case a.Nap > s.nap:
		s.nap, s.frozen = a.Nap, a.Type == messages.TypeSleep && !s.ending
	}
	s.say()
}

func (s *sleeper) say() {
	s.reports = append(s.reports, lifecycle.Reported{
		State: messages.State{Status: messages.Ready}, Nap: messages.Nap{Nap: s.nap, Asleep: s.frozen},
	})
}

func (s *sleeper) take(t *rapid.T, i int) {
	r := s.reports[i]
	s.reports = append(s.reports[:i:i], s.reports[i+1:]...)
	s.step(t, r)
}

// I1, I3, I6, in every order of sleep, wake, forward, keepalive, an end, loss of the bus, restart of the agent and restore of the database: naps only
// rise, what is to end is awake, and once all is delivered, the drone does what the workers want. A visitor who waits wakes it.
func TestI3SleepAndWakeInEveryOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		ready := lifecycle.Backend{State: messages.State{Status: messages.Ready}}
		s := &sleeper{workers: ready, kept: ready}
		pick := func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "which") }
		ask := func() { s.step(t, lifecycle.WakeAsked{}) } // a route, a join, a keepalive
		t.Repeat(map[string]func(*rapid.T){
			"sweep": func(t *rapid.T) {
				if !s.waiting {
					s.step(t, lifecycle.SleepAsked{})
				}
			},
			"sleep by hand": func(t *rapid.T) { s.step(t, lifecycle.SleepAsked{}) },
			"wake by hand":  func(*rapid.T) { ask() },
			"route":         func(*rapid.T) { ask(); s.waiting = true },
			"forward":       func(*rapid.T) { s.waiting = true },
			"keepalive": func(*rapid.T) {
				if s.waiting {
					ask()
				}
			},
			"answer": func(*rapid.T) { s.waiting = s.waiting && s.frozen },
			"terminate": func(t *rapid.T) {
				if pick(8) == 0 {
					s.step(t, lifecycle.TerminateAsked{Reason: messages.ReasonExternal})
				}
			},
			"deliver": func(t *rapid.T) {
				if n := len(s.actions); n > 0 {
					s.apply(s.actions[pick(n)])
				}
			},
			"deliver late": func(t *rapid.T) {
				if n := len(s.late); n > 0 {
					s.apply(s.late[pick(n)])
				}
			},
			"report": func(t *rapid.T) {
				if n := len(s.reports); n > 0 {
					s.take(t, pick(n))
				}
			},
			"the drone loses the bus": func(*rapid.T) {
				if s.frozen {
					s.frozen = false
					s.say()
				}
			},
			"the agent starts": func(*rapid.T) { s.frozen = false; s.say() },
			"the database is kept": func(*rapid.T) {
				s.kept, s.keptActions = s.workers, slices.Clone(s.actions)
			},
			"the database is restored": func(t *rapid.T) {
				if s.workers.MaySleep() && pick(4) == 0 {
					// The drone registers anew, and its earlier reports are of another session.
					s.workers, s.actions, s.reports = s.kept, slices.Clone(s.keptActions), nil
					s.say()
				}
			},
		})
		// All is quiet: the proxy says who waits, and all is delivered.
		for len(s.actions)+len(s.reports) > 0 {
			if s.waiting {
				ask()
			}
			for len(s.reports) > 0 {
				s.take(t, 0)
			}
			if len(s.actions) > 0 {
				s.apply(s.actions[len(s.actions)-1])
			}
		}
		if s.waiting {
			ask()
			for len(s.actions) > 0 {
				s.apply(s.actions[0])
				for len(s.reports) > 0 {
					s.take(t, 0)
				}
			}
		}
		if s.frozen != s.workers.Asleep() || s.waiting && s.frozen {
			t.Fatalf("frozen: %t at nap %d, the workers have nap %d, somebody waits: %t", s.frozen, s.nap, s.workers.Nap, s.waiting)
		}
	})
}

// The demand: what is starting, to end or has ended is not put to sleep; and what sleeps wakes when it is to end, is told to before it is told to end.
func TestI6WhatIsToEndIsAwake(t *testing.T) {
	t.Parallel()
	for _, status := range messages.Statuses {
		b := lifecycle.Backend{State: messages.State{Status: status}}
		next, a := lifecycle.Step(b, lifecycle.SleepAsked{})
		if slept := next.Asleep(); slept != (status == messages.Ready) || a.Nap != slept {
			t.Errorf("%s: asleep %t, told %t", status, slept, a.Nap)
		}
	}
	asleep := lifecycle.Backend{State: messages.State{Status: messages.Ready}, Nap: 3, ReclaimedBytes: 7}
	for name, tt := range map[string]struct {
		event lifecycle.Event
		told  bool
	}{
		"terminate":             {lifecycle.TerminateAsked{Reason: messages.ReasonSwept}, true},
		"hard":                  {lifecycle.TerminateAsked{Hard: true}, true},
		"its drone ends it":     {lifecycle.Reported{State: messages.State{Status: messages.HardTerminating}, Nap: messages.Nap{Nap: 3}}, false},
		"it has ended":          {lifecycle.Reported{State: messages.State{Status: messages.Terminated}}, false},
		"lost":                  {lifecycle.Lost{}, false},
		"its drone forgot it":   {lifecycle.Forgotten{}, false},
		"woken":                 {lifecycle.WakeAsked{}, true},
		"woken by its drone":    {lifecycle.Reported{State: messages.State{Status: messages.Ready}, Nap: messages.Nap{Nap: 3}}, true},
		"restored and frozen":   {lifecycle.Reported{State: messages.State{Status: messages.Ready}, Nap: messages.Nap{Nap: 9, Asleep: true}}, true},
		"restored and awake":    {lifecycle.Reported{State: messages.State{Status: messages.Ready}, Nap: messages.Nap{Nap: 8}}, true},
		"an odd one, forgotten": {lifecycle.Reported{State: messages.State{Status: messages.Ready}, Nap: messages.Nap{Nap: 9}}, true},
	} {
		next, a := lifecycle.Step(asleep, tt.event)
		if next.Asleep() || next.Nap <= asleep.Nap || a.Nap != tt.told {
			t.Errorf("%s: nap %d, told %t", name, next.Nap, a.Nap)
		}
	}
	// What the drone says of a nap that it has applied changes nothing but the memory.
	said := lifecycle.Reported{State: messages.State{Status: messages.Ready}, Nap: messages.Nap{Nap: 3, Asleep: true, ReclaimedBytes: 9}}
	if next, a := lifecycle.Step(asleep, said); next.Nap != 3 || next.ReclaimedBytes != 9 || a != (lifecycle.Actions{Taken: true}) {
		t.Errorf("got %+v, %+v", next, a)
	}
}
