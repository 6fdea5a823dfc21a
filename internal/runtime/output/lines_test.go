package output_test

import (
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

// I8: what is over the limit is counted, and told when its second is over.
func TestDroppedLinesAreTold(t *testing.T) {
	t.Parallel()
	var got []runtime.Line
	lines := output.New(runtime.Stdout, func(l runtime.Line) { got = append(got, l) }, 2, output.MaxLine)
	_, _ = lines.Write([]byte("1\n2\n3\n4\n"))
	at := lines.NoticeAt()
	lines.Notify(at.Add(-time.Millisecond))
	if len(got) != 2 || at.IsZero() {
		t.Fatalf("got %v, notice at %v", got, at)
	}
	lines.Notify(at)
	if len(got) != 3 || got[2].Stream != runtime.Notice || !strings.HasPrefix(got[2].Text, "2 lines (2 bytes) of stdout were dropped") {
		t.Fatalf("got %v", got)
	}
	if !lines.NoticeAt().IsZero() {
		t.Fatal("the notice is due again")
	}
}
