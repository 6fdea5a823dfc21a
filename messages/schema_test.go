package messages_test

import (
	"bytes"
	"encoding"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/jetway-project/jetway/messages"
)

// schema describes JSON, as JSON Schema has it.
type schema struct {
	Schema      string             `json:"$schema,omitempty"`
	ID          string             `json:"$id,omitempty"`
	Ref         string             `json:"$ref,omitempty"`
	Description string             `json:"description,omitempty"`
	Type        string             `json:"type,omitempty"`
	Enum        []string           `json:"enum,omitempty"`
	Const       string             `json:"const,omitempty"`
	Format      string             `json:"format,omitempty"`
	Minimum     *int64             `json:"minimum,omitempty"`
	Items       *schema            `json:"items,omitempty"`
	Properties  map[string]*schema `json:"properties,omitempty"`
	Required    []string           `json:"required,omitempty"`
	Defs        map[string]*schema `json:"$defs,omitempty"`
}

// mayLack are fields that this build always sends and that a peer may leave out all the same: they are zero then.
var mayLack = []string{
	"HeartbeatRequest.ready", "HeartbeatRequest.load", "Load.backends", "StateEvent.id", "StateEvent.time", "KeepaliveRequest.backends",
	"Action.id", "Action.time", "Spawn.deadlines", "Spawn.executable", "Deadlines.renew_at_ms", "Deadlines.soft_terminate_at_ms", "Deadlines.hard_terminate_at_ms",
	"Terminate.hard", "Terminate.reason", "LogLine.time", "LogLine.line", "TokenEvent.id", "TokenEvent.time",
	"Stats.time", "Stats.mem_used", "Stats.mem_active", "Stats.mem_inactive", "Stats.mem_unevictable", "Stats.mem_limit", "Stats.cpu_used", "Stats.sys_cpu",
}

// generator makes schemas of Go's types.
type generator struct {
	defs map[string]*schema
	docs map[string]string // of types, and of fields as Type.Field
}

func (g *generator) of(t reflect.Type) *schema {
	zero := int64(0)
	switch {
	case t.Kind() == reflect.Pointer:
		return g.of(t.Elem())
	case t == reflect.TypeFor[time.Time]():
		return &schema{Type: "string", Format: "date-time"}
	case t == reflect.TypeFor[json.RawMessage]():
		return &schema{Type: "object"}
	case t == reflect.TypeFor[messages.Status]():
		return g.enum(t, names(messages.Statuses))
	case t == reflect.TypeFor[messages.Kind]():
		return g.enum(t, names(messages.Kinds()))
	case t == reflect.TypeFor[messages.TerminationKind]():
		return g.enum(t, []string{"", string(messages.Soft), string(messages.Hard)})
	case t == reflect.TypeFor[messages.TerminationReason]():
		return g.enum(t, []string{"", "swept", "external", "key-expired", "lost", "startup-timeout", "start-failed", "internal-error"})
	case reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()):
		panic("no schema of " + t.String())
	}
	switch t.Kind() {
	case reflect.String:
		return &schema{Type: "string"}
	case reflect.Bool:
		return &schema{Type: "boolean"}
	case reflect.Int, reflect.Int64:
		return &schema{Type: "integer"}
	case reflect.Uint64:
		return &schema{Type: "integer", Minimum: &zero}
	case reflect.Slice:
		return &schema{Type: "array", Items: g.of(t.Elem())}
	case reflect.Struct:
		return g.object(t)
	default:
		panic("no schema of " + t.String())
	}
}

func names[T any](values []T) (all []string) {
	for _, v := range values {
		if s, ok := any(v).(interface{ String() string }); ok {
			all = append(all, s.String())
		} else {
			all = append(all, reflect.ValueOf(v).String())
		}
	}
	return all
}

func (g *generator) enum(t reflect.Type, values []string) *schema {
	g.defs[t.Name()] = &schema{Type: "string", Enum: values, Description: g.docs[t.Name()]}
	return &schema{Ref: "#/$defs/" + t.Name()}
}

func (g *generator) object(t reflect.Type) *schema {
	ref := &schema{Ref: "#/$defs/" + t.Name()}
	if g.defs[t.Name()] != nil {
		return ref
	}
	def := &schema{Type: "object", Description: g.docs[t.Name()], Properties: map[string]*schema{}}
	g.defs[t.Name()] = def
	g.fields(def, t)
	slices.Sort(def.Required)
	return ref
}

func (g *generator) fields(def *schema, t reflect.Type) {
	for field := range t.Fields() {
		if field.Anonymous && field.Tag.Get("json") == "" {
			g.fields(def, field.Type)
			continue
		}
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		of := g.of(field.Type)
		of.Description = g.docs[t.Name()+"."+field.Name]
		def.Properties[name] = of
		if options == "" && !slices.Contains(mayLack, t.Name()+"."+name) {
			def.Required = append(def.Required, name)
		}
	}
}

// comments reads what the package says of its types and fields.
func comments(t *testing.T) map[string]string {
	t.Helper()
	docs := map[string]string{}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	text := func(groups ...*ast.CommentGroup) string {
		for _, group := range groups {
			if said := strings.Join(strings.Fields(group.Text()), " "); said != "" {
				return said
			}
		}
		return ""
	}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			general, ok := decl.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, spec := range general.Specs {
				typ, ok := spec.(*ast.TypeSpec)
				if !ok {
					continue
				}
				docs[typ.Name.Name] = text(typ.Doc, general.Doc)
				if of, ok := typ.Type.(*ast.StructType); ok {
					for _, field := range of.Fields.List {
						for _, ident := range field.Names {
							docs[typ.Name.Name+"."+ident.Name] = text(field.Doc, field.Comment)
						}
					}
				}
			}
		}
	}
	return docs
}

// generated makes the schema of all payloads, each a definition.
func generated(t *testing.T) []byte {
	t.Helper()
	g := &generator{defs: map[string]*schema{}, docs: comments(t)}
	for _, v := range golden {
		g.of(reflect.TypeOf(v))
	}
	out, err := json.MarshalIndent(&schema{
		Schema: "https://json-schema.org/draft/2020-12/schema", ID: "https://github.com/jetway-project/jetway/messages/schema.json",
		Description: "Jetway's payloads, one definition each; PROTOCOL.md says which goes where, and what holds besides. Fields that are not named here are ignored.",
		Defs:        g.defs,
	}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{`\u003c`: "<", `\u003e`: ">", `\u0026`: "&"} {
		out = bytes.ReplaceAll(out, []byte(from), []byte(to))
	}
	return append(out, '\n')
}

// compare wants a file to be what is made of Go's types now.
func compare(t *testing.T, path string, want []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(got), string(want)); diff != "" {
		t.Errorf("%s is not what Go's types say; go test ./messages -update writes it anew: %s", path, diff)
	}
}

// The demand: schema.json is made of Go's types, and every example of this build and of earlier ones, with all fields and with
// as few as may be, is as it says.
func TestSchemaIsThatOfTheTypesAndOfTheExamples(t *testing.T) {
	t.Parallel()
	text := generated(t)
	compare(t, "schema.json", text)
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	if err := compiler.AddResource("schema.json", document); err != nil {
		t.Fatal(err)
	}
	check := func(name, path string) {
		t.Helper()
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(timed, name) && !bytes.Contains(data, []byte(`"drone_time_ms"`)) {
			data = bytes.Replace(data, []byte("{"), []byte(`{"drone_time_ms": 1,`), 1)
		}
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		of, err := compiler.Compile("schema.json#/$defs/" + reflect.TypeOf(golden[name]).Elem().Name())
		if err != nil {
			t.Fatal(err)
		}
		if err := of.Validate(value); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	for _, pattern := range []string{"testdata/*.json", peers + "/*/*.json", peers + "/*/least/*.json"} {
		files, _ := filepath.Glob(pattern)
		if len(files) == 0 {
			t.Errorf("there is no %s", pattern)
		}
		for _, path := range files {
			check(strings.TrimSuffix(filepath.Base(path), ".json"), path)
		}
	}
}
