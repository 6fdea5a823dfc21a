package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// say publishes lines as a drone does, and waits until the stream has so many.
func (w *fakeWorker) say(backend string, have int, lines ...messages.LogLine) {
	w.t.Helper()
	for _, line := range lines {
		if err := w.nc.Publish(messages.LogSubject(backend), messages.Encode(line)); err != nil {
			w.t.Error(err)
		}
	}
	testkit.Eventually(w.t, "the lines in the stream", func() bool {
		stream, err := w.js.Stream(testkit.Context(w.t), messages.StreamLogs)
		return err == nil && stream.CachedInfo().State.Msgs == uint64(have)
	})
}

func lineAt(at time.Time, stream, text string) messages.LogLine {
	return messages.LogLine{Time: at, Stream: stream, Line: text}
}

func TestLogs(t *testing.T) {
	t.Parallel()
	w := newFakeWorker(t, map[string]func([]byte) any{messages.SubjectStatus: func(data []byte) any {
		if strings.Contains(string(data), "gone") {
			return messages.Errorf(messages.NotFound, "there is no backend \"gone\"")
		}
		return infoOf("b1", messages.State{Status: messages.Terminated})
	}})
	at := time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)
	w.say("b1", 4,
		lineAt(at, messages.StreamDrone, "pulling"), lineAt(at.Add(time.Second), messages.StreamStdout, "hello"),
		lineAt(at.Add(2*time.Second), messages.StreamStderr, "oh dear"), lineAt(at.Add(3*time.Second), messages.StreamStdout, ""))
	for _, c := range []struct {
		args           string
		stdout, stderr string
	}{
		{"", "hello\n\n", "[drone] pulling\noh dear\n"},
		{"-f", "hello\n\n", "[drone] pulling\noh dear\n"}, // it has ended
		{"--tail 2", "\n", "oh dear\n"},
		{"-n 0", "", "jetway: no such lines of b1 are kept: only the last 200 are, for an hour\n"},
		{"--since 2026-01-02T15:04:07Z", "\n", "oh dear\n"},
		{"--since 1767366246 --tail 3", "hello\n\n", "oh dear\n"},
		{"--since 1s", "", "jetway: no such lines of b1 are kept: only the last 200 are, for an hour\n"},
		{"-t --tail 1", "2026-01-02T15:04:08Z \n", ""},
		{
			"--json --tail 3", `{"time":"2026-01-02T15:04:06Z","stream":"stdout","line":"hello"}
{"time":"2026-01-02T15:04:07Z","stream":"stderr","line":"oh dear"}
{"time":"2026-01-02T15:04:08Z","stream":"stdout","line":""}
`, "",
		},
	} {
		stdout, stderr, code := jetway(t, append([]string{"logs", "--nats", w.url, "b1"}, strings.Fields(c.args)...)...)
		want(t, c.args+": stdout", stdout, c.stdout)
		want(t, c.args+": stderr", stderr, c.stderr)
		wantCode(t, code, ExitOK)
	}
	_, stderr, code := jetway(t, "logs", "--nats", w.url, "-f", "gone")
	want(t, "stderr", stderr, "jetway: there is no backend \"gone\" (NotFound): jetway backends --all lists what there is\n")
	wantCode(t, code, ExitFailed)
	for _, args := range []string{"--tail x", "--tail=-1", "--since yesterday", "--since=-1m"} {
		_, stderr, code := jetway(t, append([]string{"logs", "--nats", w.url, "b1"}, strings.Fields(args)...)...)
		if !strings.Contains(stderr, "must be") || !strings.Contains(stderr, "see jetway logs --help") {
			t.Errorf("%s: %s", args, stderr)
		}
		wantCode(t, code, ExitUsage)
	}
	_, _, code = jetway(t, "logs", "--nats", w.url, "B.1")
	wantCode(t, code, ExitUsage)
}

func TestLogsAreFollowedUntilTheBackendHasEnded(t *testing.T) {
	t.Parallel()
	w := newFakeWorker(t, map[string]func([]byte) any{
		messages.SubjectStatus: func([]byte) any { return infoOf("b1", messages.State{Status: messages.Ready}) },
	})
	w.publish("b1", messages.State{Status: messages.Scheduled}, messages.State{Status: messages.Ready})
	w.say("b1", 2, lineAt(time.Now(), messages.StreamStdout, "first"), lineAt(time.Now(), messages.StreamStdout, "second"))
	follow := func() *command {
		logs := begin(t, "logs", "--nats", w.url, "-f", "--tail", "1", "b1")
		logs.stdout.await(t, "^second\n")
		return logs
	}
	interrupted, followed := follow(), follow()
	w.say("b1", 3, lineAt(time.Now(), messages.StreamStdout, "third"))
	followed.stdout.await(t, "^second\nthird\n")
	interrupted.stop()
	interrupted.ends(ExitInterrupted)
	// One right after the other, for the last words are not waited for as long as one likes.
	ended := messages.NewStateEvent("b1", time.Now(), messages.State{Status: messages.Terminated})
	if err := w.nc.Publish(messages.BackendEventSubject("b1"), messages.Encode(ended)); err != nil {
		t.Fatal(err)
	}
	w.say("b1", 4, lineAt(time.Now(), messages.StreamStdout, "last words"))
	followed.ends(ExitOK)
	want(t, "stdout", followed.stdout.String(), "second\nthird\nlast words\n")
}

func TestLogsWithoutAWorker(t *testing.T) {
	t.Parallel()
	w := newFakeWorker(t, nil)
	w.say("b1", 1, lineAt(time.Now(), messages.StreamStdout, "hello"))
	stdout, stderr, code := jetway(t, "logs", "--nats", w.url, "b1")
	want(t, "stdout", stdout, "hello\n")
	if !strings.Contains(stderr, "no worker answers") {
		t.Errorf("stderr: %s", stderr)
	}
	wantCode(t, code, ExitOK)
}
