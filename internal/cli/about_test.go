package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/jetway-project/jetway/messages"
)

// The demand: an operator sees in `jetway status`, `backends` and `drones` why a backend ended, by whom, since when, what it ran, its
// limits and users, and which drones are full or nearly so; and a lost drone is forgotten by `jetway forget`.
func TestOperatorsSeeWhyAndHowFull(t *testing.T) {
	t.Parallel()
	asked := messages.State{
		Status: messages.Terminated, LastStatus: messages.Ready, Kind: messages.Soft, Reason: messages.ReasonExternal,
		Why: messages.Why{Cause: messages.CauseAsked, By: "ada@ops", Words: "ada@ops asked for its end: an upgrade"},
	}
	swept := messages.State{Status: messages.Terminated, Kind: messages.Soft, Reason: messages.ReasonSwept, Why: messages.Why{Cause: messages.CauseIdle, Words: "nobody was connected"}}
	ended := infoOf("b1", asked)
	at, idle := ended.CreatedAt.Add(time.Minute), int64(90)
	ended.EndedAt, ended.LastUsedAt, ended.MaxIdleSeconds, ended.Runs, ended.Users, ended.MoreUsers = &at, &ended.CreatedAt, &idle, "room --size 4", []string{"ada", "bob\x1b"}, true
	drone := func(name string, used, most int, full bool) messages.DroneInfo {
		return messages.DroneInfo{Drone: name, Cluster: "c", Ready: true, Full: full, Load: messages.Load{Backends: used}, Capacity: messages.Capacity{MaxBackends: most}}
	}
	w := newFakeWorker(t, map[string]func([]byte) any{
		messages.SubjectStatus: func([]byte) any { return ended },
		messages.SubjectBackends: func([]byte) any {
			return messages.BackendsResponse{Backends: []messages.BackendInfo{ended, infoOf("b2", swept)}}
		},
		messages.SubjectDrones: func([]byte) any {
			return messages.DronesResponse{Drones: []messages.DroneInfo{drone("dr-full", 10, 10, true), drone("dr-near", 9, 10, false), drone("dr-free", 8, 10, false)}}
		},
		messages.SubjectForget:    func([]byte) any { return messages.Empty{} },
		messages.SubjectTerminate: func([]byte) any { return messages.Empty{} },
	})
	says := func(parts []string, args ...string) {
		t.Helper()
		stdout, stderr, code := jetway(t, append(args, "--nats", w.url)...)
		wantCode(t, code, ExitOK)
		for _, part := range parts {
			if !strings.Contains(stdout, part) {
				t.Errorf("%v says\n%s%s\nwithout %q", args, stdout, stderr, part)
			}
		}
	}
	says([]string{
		"external, soft, by ada@ops", "why        ada@ops asked for its end: an upgrade", "runs       room --size 4",
		"limits     ends after 1m30s with nobody connected", "last used  3m12s ago", `users      "ada", "bob\x1b", …`,
	}, "status", "b1")
	says([]string{"2m12s", "external, soft, by ada@ops", "swept, soft, idle"}, "backends", "--all")
	says([]string{"dr-full   full ", "dr-near   nearly full ", "dr-free   ready "}, "drones")
	says([]string{"dr-full is forgotten"}, "forget", "dr-full")
	want(t, "request", string(w.last().Data), `{"drone":"dr-full"}`)
	says(nil, "terminate", "--no-wait", "--reason", "an upgrade", "b1")
	want(t, "request", string(w.last().Data), `{"backend_id":"b1","by":"`+whoAsks()+`","reason":"an upgrade"}`)
}
