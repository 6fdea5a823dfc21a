package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Verdict is what came of a check.
type Verdict string

// The verdicts. Skip is for what could not be tried or seen, and says why.
const (
	Pass Verdict = "pass"
	Fail Verdict = "fail"
	Skip Verdict = "skip"
)

// Result is one line of the kit's report.
type Result struct {
	// Check is the id of the check, Says what the protocol wants, and See the section that wants it.
	Check   string  `json:"check"`
	Verdict Verdict `json:"verdict"`
	Says    string  `json:"says"`
	// Why is what was seen instead, or why nothing could be seen.
	Why string `json:"why,omitempty"`
	See string `json:"see"`
}

// Check is one row of a table.
type Check struct {
	ID, Says string
	// Section is the anchor in PROTOCOL.md.
	Section string
	// Needs are the checks without which this one says nothing.
	Needs []string
}

// See is where the protocol says what a check wants.
func (c Check) See() string { return "messages/PROTOCOL.md#" + c.Section }

// trial is a check with what tries it on a bench: a drone's or a proxy's.
type trial[Bench any] struct {
	Check
	try func(Bench, context.Context) error
}

func checksOf[Bench any](table []trial[Bench]) []Check {
	list := make([]Check, len(table))
	for i := range table {
		list[i] = table[i].Check
	}
	return list
}

// unseenError is why something could not be judged.
type unseenError string

func (u unseenError) Error() string { return string(u) }

// only gives the rows that are asked for, and those that they build on; without any, all.
func only[Bench any](table []trial[Bench], ids []string) ([]trial[Bench], error) {
	if len(ids) == 0 {
		return table, nil
	}
	wanted := map[string]bool{}
	for _, id := range ids {
		if !slices.ContainsFunc(table, func(row trial[Bench]) bool { return row.ID == id }) {
			return nil, fmt.Errorf("no check is named %q", id)
		}
		wanted[id] = true
	}
	var rows []trial[Bench]
	for _, row := range slices.Backward(table) { // what a check builds on comes before it
		if wanted[row.ID] {
			rows = append(rows, row)
			for _, id := range row.Needs {
				wanted[id] = true
			}
		}
	}
	slices.Reverse(rows)
	return rows, nil
}

// runTable tries a table's checks in order and says what came of each. The error is that of ctx.
func runTable[Bench any](ctx context.Context, table []trial[Bench], on Bench, say func(Result)) error {
	var missing []string // checks that did not pass
	for _, row := range table {
		result := Result{Check: row.ID, Says: row.Says, See: row.See(), Verdict: Pass}
		if n := slices.IndexFunc(row.Needs, func(id string) bool { return slices.Contains(missing, id) }); n >= 0 {
			result.Verdict, result.Why = Skip, "not tried: it builds on "+row.Needs[n]
		} else if err := row.try(on, ctx); ctx.Err() != nil {
			return context.Cause(ctx)
		} else if err != nil {
			result.Verdict, result.Why = Fail, err.Error()
			if errors.As(err, new(unseenError)) {
				result.Verdict = Skip
			}
		}
		if result.Verdict != Pass {
			missing = append(missing, row.ID)
		}
		say(result)
	}
	return nil
}

// observed wakes who waits for what is seen.
type observed struct {
	changed chan struct{}
}

func newObserved() observed { return observed{changed: make(chan struct{})} }

// tellLocked wakes all who wait.
func (o *observed) tellLocked() {
	close(o.changed)
	o.changed = make(chan struct{})
}

// look is how often what nothing signals is looked at.
const look = 50 * time.Millisecond

// errNot is the error of what did not come.
func errNot(within time.Duration, format string, args ...any) error {
	return fmt.Errorf("not within %s: %s", within.Round(time.Millisecond), fmt.Sprintf(format, args...))
}
