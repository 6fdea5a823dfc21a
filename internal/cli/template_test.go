package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jetway-project/jetway/messages"
)

// The demand: templates are put, shown, listed and deleted by commands, used by connect, and their spares counted by drones and top.
func TestTemplatesByCommands(t *testing.T) {
	t.Parallel()
	replaced := int64(0)
	room := messages.TemplateInfo{
		Template: messages.Template{
			Name: "room", Cluster: "c", Pool: "p", Executable: json.RawMessage(`{"command":["room"]}`), Spares: 4, ClaimPath: "/claim", Revision: 12,
			MaxIdleSeconds: new(int64(300)),
		},
		ChangedAt: time.Now(), SparesReady: 3, SparesStarting: 1, Claims: 9, Misses: 2, Error: "exit status 1",
		Drones: []messages.TemplateDrone{
			{Drone: "dr-a", SpareState: messages.SpareState{Template: "room", Revision: 12, Ready: 3, Starting: 1, Claims: 9, Misses: 2}},
			{Drone: "dr-b", SpareState: messages.SpareState{Template: "room", Revision: 11, Error: "exit status 1"}},
		},
	}
	w := newFakeWorker(t, map[string]func([]byte) any{
		messages.SubjectTemplatePut: func([]byte) any {
			return messages.PutTemplateResponse{Revision: 12, Replaced: replaced, Drones: int(replaced)}
		},
		messages.SubjectTemplateGet: func([]byte) any { return room },
		messages.SubjectTemplateList: func([]byte) any {
			return messages.ListTemplatesResponse{Templates: []messages.TemplateInfo{room}}
		},
		messages.SubjectTemplateDelete: func([]byte) any {
			return messages.Errorf(messages.NotFound, `there is no template "rom"; there is "room"`)
		},
		messages.SubjectBackends: func([]byte) any { return messages.BackendsResponse{} },
		messages.SubjectConnect: func([]byte) any {
			return messages.ConnectResponse{BackendID: "b", Spawned: true, Status: messages.Scheduled, URL: "http://c/T/"}
		},
		messages.SubjectDrones: func([]byte) any {
			return messages.DronesResponse{Drones: []messages.DroneInfo{
				{Drone: "dr-a", Cluster: "c", Ready: true, Spares: []messages.SpareState{room.Drones[0].SpareState, {Template: "hall", Ready: 2}}}, {Drone: "dr-z", Cluster: "c", Ready: true},
			}}
		},
	})
	run := func(code int, parts []string, args ...string) {
		t.Helper()
		stdout, stderr, got := jetway(t, append([]string{args[0], args[1], "--nats", w.url}, args[2:]...)...)
		wantCode(t, got, code)
		for _, part := range parts {
			if !strings.Contains(stdout+stderr, part) {
				t.Errorf("%v says\n%s%s\nwithout %q", args, stdout, stderr, part)
			}
		}
	}
	run(ExitOK, []string{"room is made, revision 12", "no drone of its cluster and pool"},
		"template", "put", "room", "--pool", "p", "--command", "room", "--env", "K=V", "--spares", "4", "--claim-path", "/claim", "--max-idle", "5m", "--", "--size", "3")
	want(t, "request", string(w.last().Data), `{"name":"room","pool":"p","executable":{"command":["room","--size","3"],"env":{"K":"V"}},"max_idle_seconds":300,"spares":4,"claim_path":"/claim"}`)
	file := filepath.Join(t.TempDir(), "room.json")
	if err := os.WriteFile(file, []byte(`{"image":"room:2"}`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	replaced = 9
	run(ExitOK, []string{"room is changed, revision 12 (was 9)"}, "template", "put", "room", "--executable", "@"+file, "--revision", "9")
	want(t, "request", string(w.last().Data), `{"name":"room","executable":{"image":"room:2"},"revision":9}`)
	replaced = 12
	run(ExitOK, []string{"room is as it was, revision 12"}, "template", "put", "room", "--command", "room")
	run(ExitOK, []string{`"name": "room"`, `"replaced": 12`}, "template", "put", "room", "--command", "room", "--json")
	run(ExitOK, []string{"4 a drone: 3 ready, 1 starting", "/claim", "5m0s", "LAST ERROR", "an earlier revision: exit status 1"}, "template", "get", "room")
	run(ExitOK, []string{`"spares_ready": 3`}, "template", "get", "room", "--json")
	run(ExitOK, []string{"TEMPLATE", "room       c"}, "template", "list")
	run(ExitFailed, []string{`there is "room"`, "jetway template list"}, "template", "delete", "rom")
	run(ExitOK, []string{"SPARES", "5 (+1)"}, "drones", "--timeout=5s")
	run(ExitOK, []string{"5 spares ready"}, "top", "--once")
	run(ExitOK, []string{"http://c/T/"}, "connect", "--no-wait", "--key", "doc", "--template", "room")
	want(t, "request", string(w.last().Data), `{"key":{"name":"doc"},"spawn_config":{"template":"room"}}`)

	run(ExitUsage, []string{"--claim-path", "/claim"}, "template", "put", "room", "--command", "room", "--spares", "1")
	run(ExitUsage, []string{"--command", "--executable"}, "template", "put", "room")
	run(ExitUsage, []string{"NAME: must have"}, "template", "put", "Room!", "--command", "room")
	run(ExitUsage, []string{"--executable: "}, "template", "put", "room", "--executable", "@"+file+".no")
	run(ExitUsage, []string{"is not behind --"}, "template", "put", "room", "stray", "--command", "room")
	run(ExitUsage, []string{"--template"}, "connect", "--key=doc", "--template", "room", "--command", "room")
}
