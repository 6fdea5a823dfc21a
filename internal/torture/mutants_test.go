//go:build linux && long

package torture_test

import (
	"bytes"
	"os"
	"os/exec"
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
	{mutant.LateDeadline, []string{"isolate drone"}, []string{"I1: two processes"}},
	{mutant.RenewExpired, []string{"freeze workers"}, []string{"I1: session"}},
	{mutant.PublishUncommitted, []string{"kill backend"}, []string{"I5:"}},
	{mutant.TakeoverUnfenced, []string{"isolate drone"}, []string{"I2:"}},
	{mutant.RouteExpired, []string{"kill backend"}, []string{"tokens:"}},
	{mutant.ForeignReport, []string{"kill backend"}, []string{"I1: a report"}},
	{mutant.AckUnjournalled, []string{"kill agent"}, []string{"I3: backend"}},
	{mutant.FreeForeign, []string{"replace machine"}, []string{"I1: two processes", "I1: key"}},
	{mutant.TakeoverUnsealed, []string{"isolate drone"}, []string{"I1: key"}},
	{mutant.LeaseMovedBack, []string{"change ttl"}, []string{"I1: session"}},
	{mutant.OldNap, []string{"kill backend"}, []string{"sleep:"}},
	{mutant.JoinLeaving, []string{"isolate drone"}, []string{"terminate:"}},
	{mutant.ResumeTwice, []string{"kill backend"}, []string{"I1: key", "I1: two processes"}},
	{mutant.ClockBelieved, []string{"step clock"}, []string{"I1: two processes"}},
	{mutant.OldSession, []string{"restore dump"}, []string{"I1: two processes"}},
	{mutant.TokensOfSequence, []string{"restore dump"}, []string{"I2:"}},
}

// tested are bugs that need more to come together than faults at random bring about in minutes: a
// test of a package is to find each.
var tested = []struct {
	bug       mutant.Name
	pkg, test string
}{
	{mutant.SilenceIsAbsence, "store", "TestConnectedBackendIsNotIdleWhileItsProxyIsSilent"},
	{mutant.SealedRenewed, "drone", "TestI1SealedBackendStaysSealed"},
	{mutant.SpareTwice, "drone/spares", "TestI1SpareIsClaimedOnce"},
	{mutant.ClaimLate, "drone/spares", "TestI1SpareIsTheBackendOrDeadWhateverItAnswers"},
	{mutant.ResumeTwice, "lease", "TestI1DormantKeyIsResumedOnce"},
	{mutant.OldSession, "store", "TestI1RestoredDatabaseGivesNobodyAKeyOfWhichItForgotTheHolder"},
	{mutant.CopyBelieved, "store", "TestI1RestoredDatabaseGivesNobodyAKeyOfWhichItForgotTheHolder"},
	{mutant.TokensOfSequence, "store", "TestI2FencingTokensRiseOverARestoreAndAFailover"},
}

// The tests find the deliberate bugs that are theirs to find, and nothing where there is none.
func TestMutantsOfTests(t *testing.T) {
	for _, m := range tested {
		t.Run(string(m.bug), func(t *testing.T) {
			for _, bug := range []mutant.Name{"", m.bug} {
				cmd := exec.CommandContext(t.Context(), "go", "test", "-tags", "mutants", "-vet=off", "-count=1", "-run", "^"+m.test+"$",
					"github.com/jetway-project/jetway/internal/"+m.pkg)
				cmd.Env = append(os.Environ(), mutant.Env+"="+string(bug))
				said, err := cmd.CombinedOutput()
				if found := bytes.Contains(said, []byte("--- FAIL: "+m.test)); found != (bug != "") || err == nil && found {
					t.Errorf("with the bug %q: %v\n%s", bug, err, said)
				}
			}
		})
	}
}

// rounds are how long each bug is hunted, in a system of its own each time, until it is
// found: two minutes at most.
var rounds = []time.Duration{15 * time.Second, 30 * time.Second, 75 * time.Second}

// The harness finds each deliberate bug within two minutes: it would find others.
func TestMutants(t *testing.T) {
	jetway := build(t, workDir(t), "-tags", "mutants")
	for _, h := range hunts {
		t.Run(string(h.bug), func(t *testing.T) {
			var spent time.Duration
			for _, length := range rounds {
				var found string
				t.Run(length.String(), func(t *testing.T) {
					s := torture(t, workDir(t), jetway, length, h.faults, mutant.Env+"="+string(h.bug))
					found = h.found(s.wrong)
				})
				if spent += length; found != "" {
					t.Logf("found within %s: %s", spent, found)
					return
				}
			}
			t.Errorf("not found within %s", spent)
		})
	}
}

// found is the first of what is wrong that comes of the bug.
func (h hunt) found(wrong []string) string {
	for _, what := range wrong {
		for _, prefix := range h.finds {
			if strings.HasPrefix(what, prefix) {
				return what
			}
		}
	}
	return ""
}
