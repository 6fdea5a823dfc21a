package lifecycle_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/jetway-project/jetway/internal/lifecycle"
	"github.com/jetway-project/jetway/messages"
)

// The demand: a life that ends by itself within 10 s of being ready, or before, or cannot be started, has failed; nobody else's doing is a failure.
func TestALifeHasFailedThatEndedByItselfTooSoon(t *testing.T) {
	t.Parallel()
	of := func(reason messages.TerminationReason, kind messages.TerminationKind, asked lifecycle.Asked) lifecycle.Backend {
		return lifecycle.Backend{State: messages.State{Status: messages.Terminated, Reason: reason, Kind: kind}, Asked: asked}
	}
	for name, tt := range map[string]struct {
		b     lifecycle.Backend
		ready float64
		want  bool
	}{
		"never ready":              {of("", "", lifecycle.NotAsked), 0, true},
		"soon after":               {of("", "", lifecycle.NotAsked), 9, true},
		"later":                    {of("", "", lifecycle.NotAsked), 10, false},
		"could not start":          {of(messages.ReasonStartFailed, "", lifecycle.NotAsked), 0, true},
		"never answered":           {of(messages.ReasonStartupTimeout, messages.Hard, lifecycle.NotAsked), 0, true},
		"never answered, as asked": {of(messages.ReasonStartupTimeout, messages.Soft, lifecycle.AskedSoft), 0, true},
		"asked to end":             {of(messages.ReasonExternal, messages.Soft, lifecycle.AskedSoft), 0, false},
		"asked, ended before":      {of("", "", lifecycle.AskedSoft), 0, false},
		"lost":                     {of(messages.ReasonLost, "", lifecycle.AskedHard), 0, false},
		"its lease ran out":        {of(messages.ReasonKeyExpired, messages.Hard, lifecycle.NotAsked), 0, false},
		"the drone's fault":        {of(messages.ReasonInternalError, "", lifecycle.NotAsked), 0, false},
		"the drone was shut down":  {of(messages.ReasonExternal, messages.Soft, lifecycle.NotAsked), 0, false},
	} {
		if got := tt.b.Crashed(tt.ready); got != tt.want {
			t.Errorf("%s: failed %t, want %t", name, got, tt.want)
		}
	}
}

// The demand: from the third failure in a row on a key rests, 1 s, 2 s, 4 s … 5 min; a life of a minute forgives all.
func TestAKeyRestsForLongerWithEachFailure(t *testing.T) {
	t.Parallel()
	var rests []int
	failures := 0
	for range 14 {
		after, rest := lifecycle.Failures(failures, true, 1)
		failures, rests = after, append(rests, rest)
	}
	want := []int{0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300}
	for i := range want {
		if rests[i] != want[i] {
			t.Fatalf("it rests for %d s, want %d", rests, want)
		}
	}
	if after, rest := lifecycle.Failures(failures, false, 30); after != failures || rest != 0 {
		t.Errorf("half a minute leaves %d failures and a rest of %d s", after, rest)
	}
	if after, rest := lifecycle.Failures(failures, false, 60); after != 0 || rest != 0 {
		t.Errorf("a minute leaves %d failures and a rest of %d s", after, rest)
	}
}

// The last words are bounded, whole letters, and never empty.
func TestLastWordsSayHowItEnded(t *testing.T) {
	t.Parallel()
	code := 3
	for want, state := range map[string]messages.State{
		"exit code 3: no config": {ExitCode: &code, Message: "no config"},
		"no such program":        {Message: "no such program"},
		"it ended as waiting":    {LastStatus: messages.Waiting},
	} {
		if got := (&lifecycle.Backend{State: state}).LastWords(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	long := (&lifecycle.Backend{State: messages.State{Message: strings.Repeat("é", messages.MaxText/2)}}).LastWords()
	if len(long) > messages.MaxLastWords || !utf8.ValidString(long) {
		t.Errorf("%d bytes", len(long))
	}
}
