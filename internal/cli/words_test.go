package cli

import (
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/jetway-project/jetway/messages"
)

// The demand: what is refused is named as the command that was given names it.
func TestRefusalsAreInTheWordsOfTheCommand(t *testing.T) {
	t.Parallel()
	for args, line := range map[string]string{
		"drain nosuch":               `DRONE: must be "dr-"`,
		"undrain nosuch":             `DRONE: must be "dr-"`,
		"top --drone nosuch":         `--drone: must be "dr-"`,
		"connect c4":                 "c4: is neither a flag nor behind --: a key is given as --key c4, a program as --command c4 (usage): see jetway connect --help",
		"connect c4 --command room":  "c4: is neither a flag",
		"connect --key a room":       "room: is neither a flag nor behind --: a program is given as --command room, its arguments after --",
		"connect --key= --command x": "--key: must not be empty; leave it out for a new process under a random key",
		"ps":                         `unexpected argument ps, did you mean "backends"? (usage): see jetway --help`,
		"get":                        `did you mean "backends"?`,
		"bogus":                      "unexpected argument bogus (usage)",
		"stauts x":                   `did you mean "status"?`,
		"drones --key one":           "unknown flag --key (usage): see jetway drones --help",
		"backends --dron a":          `did you mean "--drone"?`,
	} {
		_, stderr, code := jetway(t, strings.Fields(args)...)
		if code != ExitUsage || !strings.HasPrefix(stderr, "jetway: ") || !strings.Contains(stderr, line) {
			t.Errorf("jetway %s: %d, %swanted %s", args, code, stderr, line)
		}
	}
	_, stderr, code := jetway(t, "watch", "")
	if code != ExitUsage || !strings.HasPrefix(stderr, "jetway: BACKEND: must not be empty (usage): see jetway watch --help") {
		t.Errorf("an empty argument: %d, %s", code, stderr)
	}
}

// The demand: no command that has no such flag speaks of it.
func TestNoCommandSpeaksOfAnothersFlag(t *testing.T) {
	t.Parallel()
	leaves(t, func(args []string, _ []*kong.Flag) {
		g := &grammar{}
		parser, err := newParser(g, Process{Stdout: newOutput(), Stderr: newOutput()})
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := parser.Parse(args)
		if err != nil {
			t.Fatal(err)
		}
		node := parsed.Selected()
		for _, argument := range node.Positional {
			err := inWordsOf(node, invalid(messages.Errorf(messages.BadRequest, "%s: is bad", argument.Name)))
			if strings.HasPrefix(err.Error(), "--"+argument.Name+": ") && !hasFlag(node, argument.Name) {
				t.Errorf("%s says %q", node.FullPath(), err)
			}
		}
	})
}

// The demand: a drone that there is not is no drone without backends.
func TestAnUnknownDroneInAFilter(t *testing.T) {
	t.Parallel()
	w := newFakeWorker(t, map[string]func([]byte) any{
		messages.SubjectBackends: func([]byte) any { return messages.BackendsResponse{} },
		messages.SubjectDrones: func([]byte) any {
			return messages.DronesResponse{Drones: []messages.DroneInfo{{Drone: "dr-empty"}}}
		},
		messages.SubjectDrain: func([]byte) any { return messages.Errorf(messages.NotFound, "there is no drone \"dr-nosuch\"") },
	})
	line := "jetway: there is no drone \"dr-nosuch\" (NotFound): jetway drones lists what there is\n"
	for _, args := range [][]string{{"backends", "--drone", "dr-nosuch"}, {"top", "--once", "--drone", "dr-nosuch"}, {"drain", "dr-nosuch"}} {
		_, stderr, code := jetway(t, append(args, "--nats", w.url)...)
		want(t, strings.Join(args, " "), stderr, line)
		wantCode(t, code, ExitFailed)
	}
	_, _, code := jetway(t, "backends", "--drone", "dr-empty", "--nats", w.url)
	wantCode(t, code, ExitOK)
}

func TestDistance(t *testing.T) {
	t.Parallel()
	for pair, d := range map[[2]string]int{{"", ""}: 0, {"a", ""}: 1, {"", "ab"}: 2, {"kitten", "sitting"}: 3, {"same", "same"}: 0, {"status", "stauts"}: 2} {
		if got := messages.Distance(pair[0], pair[1]); got != d {
			t.Errorf("%v: %d", pair, got)
		}
	}
}
