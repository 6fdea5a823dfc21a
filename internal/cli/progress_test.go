package cli

import (
	"strings"
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
	commands := []*command{
		begin(t, "connect", "--nats", w.url, "--key", "k", "--command", "room"),
		begin(t, "watch", "--nats", w.url, "b1"),
	}
	for _, text := range []string{"pulling room", "12 of 80 MB", "40 of 80 MB"} {
		say(text)
		for _, c := range commands {
			c.stdout.await(t, `loading +`+text+`\n`)
		}
	}
	w.publish("b1", messages.State{Status: messages.Ready, Address: "h:1"}, messages.State{Status: messages.Terminated})
	for _, c := range commands {
		c.ends(ExitOK)
		if n := strings.Count(c.stdout.String(), "40 of 80"); n != 1 {
			t.Errorf("the same is shown %d times:\n%s", n, c.stdout)
		}
	}
}
