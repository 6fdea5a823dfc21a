package cli

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/jetway-project/jetway/messages"
)

// inWordsOf puts what went wrong in the words of the command that was given: its own help, and its
// own arguments where others have flags.
func inWordsOf(node *kong.Node, err error) error {
	if err == nil {
		return nil
	}
	f := explain(err)
	if f.do == seeHelp {
		f.do = "see " + node.FullPath() + " --help"
	}
	for _, argument := range node.Positional {
		if flag := "--" + argument.Name + ": "; strings.HasPrefix(f.what, flag) && !hasFlag(node, argument.Name) {
			f.what = strings.ToUpper(argument.Name) + f.what[len(flag)-2:]
		}
		if argument.Name == "drone" && f.kind == string(messages.NotFound) {
			f.do = seeDrones
		}
	}
	if f.kind == string(messages.NotFound) && (hasFlag(node, "template") || node.Parent != nil && node.Parent.Name == "template") {
		f.do = "jetway template list shows what there is"
	}
	return f
}

const seeDrones = "jetway drones lists what there is"

func hasFlag(node *kong.Node, name string) bool {
	return slices.ContainsFunc(node.Flags, func(f *kong.Flag) bool { return f.Name == name })
}

// unexpected is how kong refuses a word that it does not know.
var unexpected = regexp.MustCompile(`^(unexpected argument|unknown flag) (\S+?)(?:, did you mean (?:one of )?(.*)\?)?$`)

// elsewhere are commands as other programs name them.
var elsewhere = map[string]string{
	"ps": "backends", "ls": "backends", "list": "backends", "get": "backends", "kill": "terminate", "stop": "terminate", "rm": "terminate",
	"run": "connect", "start": "connect", "exec": "connect", "stats": "top", "events": "watch", "nodes": "drones", "server": "worker",
}

// suggest gives what kong says of a word that it does not know, with suggestions that are near. Kong
// thinks that "ps" might mean "logs".
func suggest(what string) string {
	m := unexpected.FindStringSubmatch(what)
	if m == nil {
		return what
	}
	var near []string
	for candidate := range strings.SplitSeq(m[3], ", ") {
		if isNear(strings.TrimLeft(m[2], "-"), strings.TrimLeft(strings.Trim(candidate, `"`), "-")) {
			near = append(near, candidate)
		}
	}
	if command, ok := elsewhere[m[2]]; ok && m[1] == "unexpected argument" && len(near) == 0 {
		near = []string{fmt.Sprintf("%q", command)}
	}
	what = m[1] + " " + m[2]
	switch len(near) {
	case 0:
		return what
	case 1:
		return what + ", did you mean " + near[0] + "?"
	}
	return what + ", did you mean one of " + strings.Join(near, ", ") + "?"
}

// isNear says that a word may be a slip of the hand for another one.
func isNear(word, other string) bool {
	switch {
	case word == "" || other == "" || word[0] != other[0]:
		return false
	case strings.HasPrefix(other, word):
		return true
	}
	return 2*messages.Distance(word, other) <= len(word)
}
