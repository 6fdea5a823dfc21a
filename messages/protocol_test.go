package messages_test

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
)

// The demand: PROTOCOL.md names every field of every payload.
func TestProtocolNamesEveryField(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var schema struct {
		Defs map[string]struct {
			Properties map[string]json.RawMessage
		} `json:"$defs"`
	}
	if err := json.Unmarshal(raw, &schema); err != nil || len(schema.Defs) == 0 {
		t.Fatal(len(schema.Defs), err)
	}
	code := strings.Join(regexp.MustCompile("`[^`]+`").FindAllString(string(page), -1), " ")
	for payload, def := range schema.Defs {
		for field := range def.Properties {
			if !regexp.MustCompile(`(^|[^a-z_])` + field + `($|[^a-z_])`).MatchString(code) {
				t.Errorf("PROTOCOL.md does not name %s.%s", payload, field)
			}
		}
	}
}
