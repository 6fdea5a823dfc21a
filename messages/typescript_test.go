package messages_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// typescript writes the schema as TypeScript's types.
func typescript(t *testing.T) []byte {
	t.Helper()
	var all schema
	if err := json.Unmarshal(generated(t), &all); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	out.WriteString("// Made from ../../schema.json by go test ./messages -update: do not edit.\n")
	for _, name := range slices.Sorted(maps.Keys(all.Defs)) {
		def := all.Defs[name]
		if name == "Error" {
			name = "ErrorReply" // Error is JavaScript's
		}
		out.WriteString("\n")
		comment(&out, "", def.Description)
		if def.Enum != nil {
			fmt.Fprintf(&out, "export type %s = %s;\n", name, typeOf(def))
			continue
		}
		fmt.Fprintf(&out, "export interface %s {\n", name)
		for _, field := range slices.Sorted(maps.Keys(def.Properties)) {
			of, optional := def.Properties[field], "?"
			if slices.Contains(def.Required, field) {
				optional = ""
			}
			comment(&out, "  ", of.Description)
			fmt.Fprintf(&out, "  %s%s: %s;\n", field, optional, typeOf(of))
		}
		out.WriteString("}\n")
	}
	return []byte(out.String())
}

func comment(out *strings.Builder, indent, text string) {
	if text != "" {
		fmt.Fprintf(out, "%s/** %s */\n", indent, strings.ReplaceAll(text, "*/", "* /"))
	}
}

func typeOf(s *schema) string {
	switch {
	case s.Ref != "":
		return strings.TrimPrefix(s.Ref, "#/$defs/")
	case s.Enum != nil:
		quoted := make([]string, len(s.Enum))
		for i, v := range s.Enum {
			quoted[i] = fmt.Sprintf("%q", v)
		}
		return strings.Join(quoted, " | ")
	case s.Type == "array":
		return typeOf(s.Items) + "[]"
	case s.Type == "object":
		return "Record<string, unknown>"
	case s.Type == "integer":
		return "number"
	}
	return s.Type
}

// The demand: the TypeScript client has the payloads as the schema has them.
func TestTypeScriptHasTheTypesOfTheSchema(t *testing.T) {
	t.Parallel()
	compare(t, "client-ts/src/payloads.ts", typescript(t))
}
