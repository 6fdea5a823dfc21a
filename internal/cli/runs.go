package cli

import (
	"encoding/json"
	"os"
	"slices"
	"strings"

	"github.com/jetway-project/jetway/messages"
)

// program is what commands are told to run.
type program struct {
	Command    []string          `sep:"none" placeholder:"WORD" help:"The program to run: a path below the drone's --process-root. Repeat the flag for arguments, or give them after --."`
	Env        map[string]string `mapsep:"none" placeholder:"K=V" help:"Environment variable of the program. May be repeated."`
	Executable string            `placeholder:"JSON|@FILE" help:"What to run, as the drone's runtime reads it, instead of --command; @FILE reads it from a file. With --runtime docker: {\"image\":\"…\"}; see deploy/BACKEND.md."`
}

// executable is what to run, with arguments that follow --; nil where nothing is said.
func (c *program) executable(args []string) (json.RawMessage, error) {
	command := append(append([]string{}, c.Command...), args...)
	if c.Executable != "" {
		text, from := []byte(c.Executable), ""
		if path, ok := strings.CutPrefix(c.Executable, "@"); ok {
			var err error
			if text, err = os.ReadFile(path); err != nil {
				return nil, usagef("--executable: %v", err)
			}
			from = path + " "
		}
		switch {
		case len(command) > 0:
			return nil, usagef("--executable: give it or --command, not both")
		case len(c.Env) > 0:
			return nil, usagef("--env: goes with --command; put it into --executable")
		case !json.Valid(text):
			return nil, usagef("--executable: %sis not JSON", from)
		}
		return json.RawMessage(strings.TrimSpace(string(text))), nil
	}
	if len(command) == 0 {
		if len(c.Env) > 0 {
			return nil, usagef("--env: needs --command")
		}
		return nil, nil
	}
	return messages.Encode(struct {
		Command []string          `json:"command"`
		Env     map[string]string `json:"env,omitempty"`
	}{command, c.Env}), nil
}

// behind is how many of a command's words follow --.
func behind(args []string) int {
	if n := slices.Index(args, "--"); n >= 0 {
		return len(args) - n - 1
	}
	return 0
}
