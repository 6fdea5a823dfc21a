package drone

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/messages"
)

func anyEvent() *rapid.Generator[event] {
	return rapid.OneOf(
		rapid.Just[event](spawned{}),
		rapid.Just[event](prepared{}),
		rapid.Map(rapid.SampledFrom([]string{"", "127.0.0.1:8080"}), func(a string) event { return started{address: a} }),
		rapid.Just[event](answered{}),
		rapid.Just[event](failed{message: "no such file"}),
		rapid.Map(rapid.IntRange(-1, 255), func(code int) event { return exited{exit: runtime.Exit{Code: code}} }),
		rapid.Custom(func(t *rapid.T) event {
			return endAsked{
				hard:   rapid.Bool().Draw(t, "hard"),
				reason: rapid.SampledFrom([]messages.TerminationReason{"", messages.ReasonExternal, messages.ReasonKeyExpired}).Draw(t, "reason"),
			}
		}),
	)
}

// Whatever happens to a backend in whatever order, its reported states only go up,
// each once, and nothing follows terminated.
func TestI5ReportedStatesOnlyGoUp(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		b, _ := step(backend{}, spawned{})
		last, overs := messages.Loading, 0
		for _, e := range rapid.SliceOf(anyEvent()).Draw(t, "events") {
			before := b
			next, fx := step(b, e)
			b = next
			if b.status < before.status {
				t.Fatalf("%#v took the status back from %s to %s", e, before.status, b.status)
			}
			if (fx.report.Status != 0) != (b.status != before.status) {
				t.Fatalf("%#v: status %s to %s, but reported %v", e, before.status, b.status, fx.report)
			}
			if fx.report.Status != 0 {
				if fx.report.Status <= last {
					t.Fatalf("%#v reported %s after %s", e, fx.report.Status, last)
				}
				last = fx.report.Status
			}
			if fx.over {
				overs++
			}
			if fx.over != (b.status == messages.Terminated && before.status != messages.Terminated) || overs > 1 {
				t.Fatalf("%#v: over %v at %s", e, fx.over, b.status)
			}
			if before.status == messages.Terminated && fx.report.Status != 0 {
				t.Fatalf("%#v did something to a backend that had ended: %+v", e, fx)
			}
		}
	})
}

// A backend that is asked to end while it runs is told so, each way at most once, and
// is over only when its instance has ended.
func TestI1TerminatedOnlyAfterTheInstanceEnded(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		b, _ := step(backend{}, spawned{})
		running, told := false, map[signal]int{}
		for _, e := range rapid.SliceOf(anyEvent()).Draw(t, "events") {
			// What a runtime can do: start once, fail only before, exit only after.
			switch e.(type) {
			case started:
				if running || b.status == messages.Terminated {
					continue
				}
				running = true
			case failed:
				if running {
					continue
				}
			case exited:
				if !running {
					continue
				}
				running = false
			}
			next, fx := step(b, e)
			b = next
			told[fx.signal]++
			switch {
			case b.status == messages.Terminated && running:
				t.Fatalf("terminated while it runs, after %#v", e)
			case fx.signal != noSignal && !running:
				t.Fatalf("%#v: signal %d to nothing", e, fx.signal)
			case told[signalSoft] > 1 || told[signalHard] > 1:
				t.Fatalf("%#v: told to end twice", e)
			case b.status == messages.HardTerminating && running && told[signalHard] == 0:
				t.Fatalf("%#v: hard-terminating, but not killed", e)
			}
			if b.status == messages.Terminated {
				return
			}
		}
	})
}

func TestHowABackendEnded(t *testing.T) {
	t.Parallel()
	soft, hard := endAsked{reason: messages.ReasonSwept}, endAsked{hard: true}
	up := []event{prepared{}, started{address: "127.0.0.1:1"}, answered{}}
	exit := func(code int) event { return exited{exit: runtime.Exit{Code: code}, lastWords: []string{"oh no"}} }
	for name, test := range map[string]struct {
		events []event
		kind   messages.TerminationKind
		reason messages.TerminationReason
		last   messages.Status
	}{
		"by itself": {append(slices.Clone(up), exit(0)), "", "", messages.Ready},
		"by itself, and more is known": {
			append(slices.Clone(up), exited{exit: runtime.Exit{Code: 137, Message: "out of memory"}}), "", "", messages.Ready,
		},
		"before it was ready":   {append(slices.Clone(up[:2]), exit(3)), "", messages.ReasonStartFailed, messages.Waiting},
		"could not start":       {[]event{failed{message: "no"}}, "", messages.ReasonStartFailed, messages.Loading},
		"softly":                {append(slices.Clone(up), soft, exit(0)), messages.Soft, messages.ReasonSwept, messages.Terminating},
		"after the grace":       {append(slices.Clone(up), soft, hard, exit(-1)), messages.Hard, messages.ReasonSwept, messages.HardTerminating},
		"hard for a new reason": {append(slices.Clone(up), soft, endAsked{hard: true, reason: messages.ReasonLost}, exit(-1)), messages.Hard, messages.ReasonLost, messages.HardTerminating},
		"while it was loading":  {[]event{soft, failed{message: "context canceled"}}, messages.Soft, messages.ReasonSwept, messages.Terminating},
	} {
		b, _ := step(backend{}, spawned{})
		var fx effects
		for _, e := range test.events {
			b, fx = step(b, e)
		}
		got := fx.report
		if got.Status != messages.Terminated || got.Kind != test.kind || got.Reason != test.reason || got.LastStatus != test.last {
			t.Errorf("%s: reported %+v", name, got)
		}
		if name == "before it was ready" && !strings.Contains(got.Message, "oh no") {
			t.Errorf("%s: message %q", name, got.Message)
		}
		if name == "by itself" && got.Message != "its last output: oh no" {
			t.Errorf("%s: message %q", name, got.Message)
		}
		if name == "softly" && got.Message != "" {
			t.Errorf("%s: message %q", name, got.Message)
		}
		if name == "by itself, and more is known" && (got.Message != "out of memory" || got.ExitCode == nil || *got.ExitCode != 137) {
			t.Errorf("%s: reported %+v", name, got)
		}
		if name == "while it was loading" && got.Message != "" {
			t.Errorf("%s: message %q", name, got.Message)
		}
	}
}

func TestCleanIsFitForAMessage(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		raw := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) })).Draw(t, "raw")
		limit := rapid.IntRange(3, 64).Draw(t, "limit")
		got := clean(raw, limit)
		if len(got) > limit || !utf8.ValidString(got) || strings.ContainsAny(got, "\x00\r\x1b") {
			t.Fatalf("clean(%q, %d) = %q", raw, limit, got)
		}
	})
}

func TestEndedIsBounded(t *testing.T) {
	t.Parallel()
	e := newEnded()
	e.add("a", 0, 100)
	e.add("b", 50, 150)
	e.add("c", 100, 200)
	if e.has("a") || !e.has("b") || !e.has("c") {
		t.Fatalf("remembers %v", e.ids)
	}
	for i := range maxEnded + 10 {
		e.add(strings.Repeat("x", 1+i%40)+string(rune('0'+i)), 100, 1000)
	}
	if len(e.ids) > maxEnded || len(e.queue) != len(e.ids) {
		t.Fatalf("remembers %d", len(e.ids))
	}
}
