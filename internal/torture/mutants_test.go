//go:build linux

package torture_test

import (
	"strings"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/mutant"
)

// hunt says how a deliberate bug is looked for: the faults that bring it out.
type hunt struct {
	bug    mutant.Name
	faults []string
	// finds begins what is wrong then.
	finds []string
}

var hunts = []hunt{
	{mutant.LateDeadline, []string{"cut", "stall"}, []string{"I1: two processes"}},
	{mutant.RenewExpired, []string{"freeze workers"}, []string{"I1: key"}},
	{mutant.PublishUncommitted, []string{"kill backend"}, []string{"I5:"}},
	{mutant.TakeoverUnfenced, []string{"kill", "freeze"}, []string{"I2:"}},
	{mutant.RouteExpired, []string{"kill backend"}, []string{"tokens:"}},
	{mutant.ForeignReport, []string{"kill backend"}, []string{"I1: a report"}},
	{mutant.AckUnjournalled, []string{"kill agent"}, []string{"I3: backend"}},
}

// The harness finds each deliberate bug within two minutes: it would find others.
func TestMutants(t *testing.T) {
	if *duration == 0 {
		t.Skip("takes a quarter of an hour: make mutants")
	}
	jetway := build(t, workDir(t), "-tags", "mutants")
	for _, h := range hunts {
		t.Run(string(h.bug), func(t *testing.T) {
			s := torture(t, workDir(t), jetway, min(*duration, 2*time.Minute), h.faults, mutant.Env+"="+string(h.bug))
			for _, what := range s.wrong {
				for _, prefix := range h.finds {
					if strings.HasPrefix(what, prefix) {
						t.Logf("found: %s", what)
						return
					}
				}
			}
			t.Errorf("not found; found instead: %q", s.wrong)
		})
	}
}
