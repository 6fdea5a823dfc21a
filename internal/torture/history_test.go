//go:build linux

package torture_test

import (
	"fmt"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/jetway-project/jetway/internal/testkit"
)

// What happens to a key's lease, as far as anybody outside can tell.
type (
	// spawn acquires it for a backend; join finds that backend holding it; end is
	// the release, or the loss, of what the backend held.
	step struct {
		what    string
		key     keyName
		backend string
	}
	// holder is the state of the model: who holds the key, "" for nobody.
	holder string
)

// leaseModel is what a lease is: at any time one backend at most holds a key, a spawn
// takes it from nobody, a join finds the one that holds it, and after its end a
// backend never holds it again.
var leaseModel = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byKey := map[keyName][]porcupine.Operation{}
		for _, o := range history {
			k := o.Input.(step).key
			byKey[k] = append(byKey[k], o)
		}
		var parts [][]porcupine.Operation
		for _, part := range byKey {
			parts = append(parts, part)
		}
		return parts
	},
	Init: func() any { return holder("") },
	Step: func(state, input, _ any) (bool, any) {
		held, in := state.(holder), input.(step)
		switch in.what {
		case "spawn":
			return held == "", holder(in.backend)
		case "join":
			return held == holder(in.backend), held
		default:
			return held == holder(in.backend), holder("")
		}
	},
	DescribeOperation: func(input, _ any) string {
		in := input.(step)
		return in.what + " " + in.backend
	},
	DescribeState: func(state any) string {
		if state.(holder) == "" {
			return "nobody"
		}
		return string(state.(holder))
	},
}

// forever is the return of an operation of which nobody knows when it took effect.
const forever = time.Duration(1<<62 - 1)

// operations put together what clients saw with what the database and the register did.
// spawned are the backends that were ever committed.
func operations(ops []op, spawned map[string]bool, lives map[string]life, endedAt func(string) (time.Duration, bool)) []porcupine.Operation {
	var history []porcupine.Operation
	add := func(client int, in step, call, done time.Duration) {
		history = append(history, porcupine.Operation{ClientId: client, Input: in, Call: int64(call), Return: int64(done)})
	}
	named := make(map[string]bool)
	for _, o := range ops {
		named[o.backendID] = named[o.backendID] || o.what == "connect" && o.backendID != "" && spawned[o.backendID] && (o.spawned || o.outcome == unknown)
	}
	// Those that visitors started, or connects without an answer that did not say the id.
	for _, o := range ops {
		if o.what == "connect" && o.outcome == granted && !named[o.backendID] {
			named[o.backendID] = true
			l, ok := lives[o.backendID]
			began, from, until := o.done, time.Duration(0), forever
			if ok && !l.late {
				began, from = min(began, l.From), l.To
			}
			if at, ok := endedAt(o.backendID); ok {
				until = max(at, from)
			}
			add(enders, step{"spawn", o.key, o.backendID}, 0, began)
			add(enders, step{"end", o.key, o.backendID}, from, until)
		}
	}
	for _, o := range ops {
		switch {
		case o.what != "connect" || o.backendID == "":
		case o.outcome == granted && !o.spawned:
			add(o.client, step{"join", o.key, o.backendID}, o.call, o.done)
		case spawned[o.backendID] && (o.spawned || o.outcome == unknown):
			done := o.done
			if o.outcome == unknown {
				done = forever
			}
			add(o.client, step{"spawn", o.key, o.backendID}, o.call, done)
			// It ended at some time after it was spawned, and, where it had a process,
			// not before that (I1); when the event came it had.
			from, until := o.call, forever
			if l, ok := lives[o.backendID]; ok && !l.late {
				from = max(from, l.To)
			}
			if at, ok := endedAt(o.backendID); ok {
				until = max(at, from)
			}
			add(enders, step{"end", o.key, o.backendID}, from, until)
		}
	}
	return history
}

// enders is the client of all ends, for the picture.
const enders = clientCount

// checkHistory looks for an order in which all of it could have happened one by one.
func (s *system) checkHistory(history []porcupine.Operation, faults []fault, picture string) {
	result, info := porcupine.CheckOperationsVerbose(leaseModel, history, testkit.Patience)
	switch result {
	case porcupine.Ok:
	case porcupine.Unknown:
		s.failf("harness: no verdict on the history of %d operations within %s", len(history), testkit.Patience)
	default:
		s.fail("I1: the history of the leases is not linearizable; see " + picture)
	}
	s.mu.Lock()
	bad := len(s.wrong) > 0
	s.mu.Unlock()
	if !bad {
		return
	}
	var notes []porcupine.Annotation
	for _, f := range faults {
		notes = append(notes, porcupine.Annotation{
			Tag: "faults", Start: int64(f.from), End: int64(f.to), Description: f.name + " " + f.target, BackgroundColor: "#f5c6cb",
		})
	}
	info.AddAnnotations(notes)
	if err := porcupine.VisualizePath(leaseModel, info, picture); err != nil {
		s.fail(fmt.Sprintf("harness: draw the history: %v", err))
	}
}
