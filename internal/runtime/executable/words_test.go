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
		`{"command":"room"}`:                    `command: is a JSON string, wanted a list [...]; W`,
		`{"command":["room",7]}`:                "command[1]: got 7 where a string is wanted; W",
		`{"env":[]}`:                            `env: is a JSON list, wanted an object {...}; W`,
		`{"limits":{"memory_limit_bytes":"1"}}`: "limits.memory_limit_bytes: is a JSON string, wanted a whole number; W",
		`{"limits":{"memory_limit_bytes":1.5}}`: "limits.memory_limit_bytes: is 1.5, wanted a whole number; W",
		`[]`:                                    `is a JSON list, wanted an object {...}; W`,
		`"room"`:                                `is a JSON string, wanted an object {...}; W`,
		`{"comand":[]}`:                         `comand: is no field that there is: correct its name, or leave it out; W`,
		`{"command":["a"],"COMMAND":["b"]}`:     `COMMAND: is no field that there is: correct its name, or leave it out; W`,
		`{"command":["a"],"command":["b"]}`:     `command: is there twice in one object, and readers differ in which one they take: send it once; W`,
		`{"env":{"A":"1","A":"2"}}`:             `env.A: is there twice in one object, and readers differ in which one they take: send it once; W`,
		``:                                      "it is empty; W",
		`{"command":`:                           "the payload is not JSON: it ends within a value, at byte 11; W",
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
