package cli

import (
	"context"
	"regexp"
	"sync"
	"testing"

	"github.com/jetway-project/jetway/messages"
)

// How far the pull of an image is, is shown while connect and watch wait.
func TestProgressOfAStartIsShown(t *testing.T) {
	t.Parallel()
	var w *fakeWorker
	var mu sync.Mutex
	state := messages.State{Status: messages.Loading, Message: "pulling room"}
	say := func(text string) {
		mu.Lock()
		defer mu.Unlock()
		state.Message = text
	}
	w = newFakeWorker(t, map[string]func([]byte) any{
		messages.SubjectConnect: func([]byte) any {
			return messages.ConnectResponse{BackendID: "b1", Spawned: true, Drone: "dr-a", Status: messages.Scheduled, URL: "http://h/T/"}
		},
		messages.SubjectStatus: func([]byte) any {
			mu.Lock()
			defer mu.Unlock()
			return infoOf("b1", state)
		},
	})
	w.publish("b1", messages.State{Status: messages.Scheduled}, state)
	codes := make(chan int, 2)
	var outs []*output
	for _, args := range [][]string{
		{"connect", "--nats", w.url, "--key", "k", "--command", "room"},
		{"watch", "--nats", w.url, "b1"},
	} {
		out := newOutput()
		outs = append(outs, out)
		go func() {
			codes <- Run(context.Background(), Process{Args: args, Stdout: out, Stderr: newOutput()})
		}()
	}
	for _, text := range []string{"pulling room", "12 of 80 MB", "40 of 80 MB"} {
		say(text)
		for _, out := range outs {
			out.await(t, `loading +`+text+`\n`)
		}
	}
	w.publish("b1", messages.State{Status: messages.Ready, Address: "h:1"}, messages.State{Status: messages.Terminated})
	wantCode(t, <-codes, ExitOK)
	wantCode(t, <-codes, ExitOK)
	for _, out := range outs {
		if n := len(regexp.MustCompile("40 of 80").FindAllString(out.String(), -1)); n != 1 {
			t.Errorf("the same is shown %d times:\n%s", n, out)
		}
	}
}
