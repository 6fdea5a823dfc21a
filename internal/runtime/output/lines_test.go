package output_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/output"
)

// I8: whatever is written, in whatever pieces, comes out in order and in bounded lines.
func TestLinesOfAnyPieces(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		texts := rapid.SliceOfN(rapid.StringOfN(rapid.RuneFrom([]rune("aé€😀 ")), 0, 5000, -1), 0, 6).Draw(t, "lines")
		text := strings.Join(texts, "\n")
		var got []string
		lines := output.New(runtime.Stderr, func(l runtime.Line) {
			if len(l.Text) > output.MaxLine || l.Stream != runtime.Stderr || l.Time.IsZero() {
				t.Fatalf("line %+v", l)
			}
			got = append(got, l.Text)
		}, 1000, 1<<20)
		for rest := text; rest != ""; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "piece")
			if written, err := lines.Write([]byte(rest[:n])); written != n || err != nil {
				t.Fatalf("wrote %d, %v", written, err)
			}
			rest = rest[n:]
		}
		lines.End()
		if strings.Join(got, "") != strings.ReplaceAll(text, "\n", "") {
			t.Fatalf("%q became %q", text, got)
		}
		for _, line := range got {
			if strings.Contains(line, "\uFFFD") {
				t.Fatalf("a character was cut in %q", line)
			}
		}
	})
}

// I8: of what is over the limit the last lines come when its second is over; what was dropped
// before them is counted, and told in its place.
func TestI8LastLinesAreKept(t *testing.T) {
	t.Parallel()
	const limit, written = 500, 3000
	var got []runtime.Line
	lines := output.New(runtime.Stderr, func(l runtime.Line) { got = append(got, l) }, limit, 1<<20)
	for n := range written {
		_, _ = fmt.Fprintf(lines, "line %d\n", n)
	}
	_, _ = lines.Write([]byte("panic: the cause"))
	at := lines.NoticeAt()
	lines.Notify(at.Add(-time.Millisecond))
	if len(got) != limit || at.IsZero() {
		t.Fatalf("got %d lines, notice at %v", len(got), at)
	}
	lines.End()
	told := got[limit]
	if told.Stream != runtime.Notice || !strings.HasPrefix(told.Text, "2401 lines (21109 bytes) of stderr were dropped") {
		t.Errorf("told %+v", told)
	}
	last := got[limit+1:]
	if len(last) != 100 || last[0].Text != "line 2901" || last[98].Text != "line 2999" || last[99].Text != "panic: the cause" {
		t.Errorf("the last are %d, %v", len(last), last)
	}
	if !lines.NoticeAt().IsZero() {
		t.Error("the notice is due again")
	}
}

// I8: the last lines are bounded in bytes, too, and where none lies between nothing is told.
func TestI8LastLinesAreBounded(t *testing.T) {
	t.Parallel()
	var got []runtime.Line
	lines := output.New(runtime.Stdout, func(l runtime.Line) { got = append(got, l) }, 1, output.MaxLine)
	_, _ = lines.Write([]byte("one\ntwo\n"))
	lines.Notify(lines.NoticeAt())
	if len(got) != 2 || got[1].Text != "two" {
		t.Fatalf("got %v", got)
	}
	got = nil
	long := strings.Repeat("x", output.MaxLine-1) + "\n"
	for range 4 {
		_, _ = lines.Write([]byte(long))
	}
	lines.End()
	if len(got) != 3 || !strings.HasPrefix(got[0].Text, "2 lines (16382 bytes)") || len(got[1].Text)+len(got[2].Text) > 16<<10 {
		t.Fatalf("got %d lines, the first %.80q", len(got), got[0].Text)
	}
}
