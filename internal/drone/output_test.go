package drone

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/messages"
)

// A backend that prints more than can be sent is not held up: its last lines are sent, and how
// many were dropped before them.
func TestI8OutputThatDoesNotFitIsDroppedAndCounted(t *testing.T) {
	t.Parallel()
	nc := natstest.Conn(t, natstest.Server(t).URL())
	sub, err := nc.SubscribeSync(messages.LogSubject("b-1"))
	if err != nil {
		t.Fatal(err)
	}
	p := newPublisher(nc)
	l := p.lines("b-1")
	for i := range maxLines + 3 { // nobody publishes yet
		l.add(runtime.Line{Time: time.Now(), Stream: runtime.Stdout, Text: fmt.Sprintf("line %d", i)})
	}
	if words := l.lastWords(); len(words) != maxLastWords || words[maxLastWords-1] != fmt.Sprintf("line %d", maxLines+2) {
		t.Fatalf("last words %q", words)
	}
	l.add(runtime.Line{Stream: runtime.Notice, Text: "one more"})

	p.publish(<-p.queue)
	for _, want := range []messages.LogLine{{Stream: "drone", Line: "4 lines were dropped"}, {Stream: "stdout", Line: "line 4"}} {
		msg, err := sub.NextMsg(testkit.Patience)
		if err != nil {
			t.Fatal(err)
		}
		var got messages.LogLine
		if err := json.Unmarshal(msg.Data, &got); err != nil || got.Stream != want.Stream || !strings.HasPrefix(got.Line, want.Line) {
			t.Fatalf("got %+v, %v, want %+v", got, err, want)
		}
	}
}
