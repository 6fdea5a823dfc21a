package executable_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/runtime/executable"
)

// The demand: who wrote the wrong JSON reads what is wrong with it, and nothing of Go.
func TestWrongJSONIsSaidInPlainWords(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		`{"command":"room"}`:                    `command is a JSON string, wanted a list ["…", "…"]; W`,
		`{"command":["room",7]}`:                "got 7 where a string is wanted; W",
		`{"env":[]}`:                            `env is a JSON array, wanted an object {"…": …}; W`,
		`{"limits":{"memory_limit_bytes":"1"}}`: "limits.memory_limit_bytes is a JSON string, wanted a whole number; W",
		`{"limits":{"memory_limit_bytes":1.5}}`: "limits.memory_limit_bytes is a JSON number 1.5, wanted a whole number; W",
		`[]`:                                    `it is a JSON array, wanted an object {"…": …}; W`,
		`"room"`:                                `it is a JSON string, wanted an object {"…": …}; W`,
		`{"comand":[]}`:                         `unknown field "comand"; W`,
		``:                                      "it is empty; W",
		`{"command":`:                           "unexpected EOF; W",
	} {
		var into struct {
			Command []executable.Text                   `json:"command"`
			Env     map[executable.Text]executable.Text `json:"env"`
			Limits  *executable.Limits                  `json:"limits"`
		}
		err := executable.Decode(json.RawMessage(raw), &into, "W")
		if err == nil || err.Error() != "executable: "+want {
			t.Errorf("%s: %v, wanted %s", raw, err, want)
		}
		if err != nil && (strings.Contains(err.Error(), "Go ") || strings.Contains(err.Error(), "executable.")) {
			t.Errorf("%s: %v", raw, err)
		}
	}
}
