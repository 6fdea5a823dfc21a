package gateway_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/jetway-project/jetway/internal/gateway"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// described is the description, as one who knows nothing else reads it: the schemas of OpenAPI 3.1 are those of JSON Schema.
type described struct {
	t        *testing.T
	compiler *jsonschema.Compiler
	paths    map[string]map[string]struct {
		RequestBody struct {
			Content map[string]any `json:"content"`
		} `json:"requestBody"`
		Responses map[string]struct {
			Content map[string]any `json:"content"`
		} `json:"responses"`
	}
}

func readDescription(t *testing.T, f *fixture) *described {
	t.Helper()
	text := f.ask("GET", "/openapi.json", "")
	want(t, text, 200, `"openapi":"3\.1\.\d"`)
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(text.body))
	must(t, err)
	d := &described{t: t, compiler: jsonschema.NewCompiler()}
	d.compiler.AssertFormat()
	must(t, d.compiler.AddResource("file:///openapi.json", document))
	var parsed struct {
		Paths json.RawMessage `json:"paths"`
	}
	must(t, json.Unmarshal([]byte(text.body), &parsed))
	must(t, json.Unmarshal(parsed.Paths, &d.paths))
	return d
}

// check holds a body against the schema at a place.
func (d *described) check(place, body string) {
	d.t.Helper()
	schema, err := d.compiler.Compile("file:///openapi.json#/paths/" + place + "/schema")
	if err != nil {
		d.t.Errorf("%s: %v", place, err)
		return
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader([]byte(body)))
	if err == nil {
		err = schema.Validate(value)
	}
	if err != nil {
		d.t.Errorf("%s says otherwise than %s: %v", place, body, err)
	}
}

func pointer(parts ...string) string {
	for i, p := range parts {
		parts[i] = strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D").Replace(p)
	}
	return strings.Join(parts, "/")
}

// The description has every route of /v1, and says of requests, answers and refusals what really goes over the wire.
func TestTheDescriptionIsTrue(t *testing.T) {
	t.Parallel()
	f := start(t)
	d := readDescription(t, f)
	for _, r := range gateway.Routes() {
		if strings.HasPrefix(r.Path, "/v1/") {
			if _, ok := d.paths[r.Path][strings.ToLower(r.Method)]; !ok || !r.Described {
				t.Errorf("%s %s is not described", r.Method, r.Path)
			}
		}
	}
	b := f.connect(`{"key":{"name":"described"},` + spawn + `}`)
	f.await(b.BackendID, messages.Ready)
	id := `{"backend_id":"` + b.BackendID + `"}`
	for _, c := range [][4]string{
		{"post", "/v1/connect", "", `{"key":{"name":"described","tag":""},"user":"ann","auth":{"a":[1]},"token_lifetime_seconds":60}`},
		{"post", "/v1/connect", "", `{"key":{"name":"described","tag":"other"}}`}, // refused
		{"post", "/v1/status", "", id},
		{"post", "/v1/revoke", "", `{"backend_id":"` + b.BackendID + `","user":"ann"}`},
		{"get", "/v1/backends", "?limit=5", ""},
		{"get", "/v1/backends/{backend}", "", ""},
		{"get", "/v1/backends/{backend}/events", "", ""},
		{"get", "/v1/backends/{backend}/logs", "?tail=3", ""},
		{"get", "/v1/backends/{backend}", "none", ""}, // refused
		{"get", "/v1/drones", "", ""},
		{"post", "/v1/drain", "", `{"drone":"dr-none"}`}, // refused
		{"post", "/v1/backends/{backend}/sleep", "", ""},
		{"post", "/v1/backends/{backend}/wake", "", ""},
		{"post", "/v1/retry", "", `{"key":{"name":"described"}}`},
		{"post", "/v1/templates", "", `{"name":"described","pool":"nowhere","executable":{"a":1},"max_idle_seconds":5,"spares":1,"claim_path":"/claim"}`},
		{"get", "/v1/templates", "?limit=5", ""},
		{"get", "/v1/templates/{template}", "", ""},
		{"delete", "/v1/templates/{template}", "?revision=1", ""}, // refused
		{"delete", "/v1/templates/{template}", "", ""},
		{"post", "/v1/terminate", "", id},
	} {
		got := f.ask(strings.ToUpper(c[0]), strings.NewReplacer("{backend}", b.BackendID, "{template}", "described").Replace(c[1])+c[2], c[3], "Accept", "application/json")
		if c[3] != "" {
			d.check(pointer(c[1], c[0], "requestBody", "content", "application/json"), c[3])
		}
		status := map[int]string{200: "200", 404: "404", 409: "409"}[got.status]
		d.check(pointer(c[1], c[0], "responses", status, "content", "application/json"), got.body)
	}
	problem := f.ask("GET", "/v1/backends/none", "", "Accept", "application/problem+json")
	d.check(pointer("/v1/backends/{backend}", "get", "responses", "404", "content", "application/problem+json"), problem.body)
}

// The description is valid to those who validate, and a client that is generated from it does its work.
func TestAGeneratedClientConnects(t *testing.T) {
	testkit.Long(t)
	t.Parallel()
	if _, err := exec.LookPath("npm"); err != nil {
		testkit.LeaveOut(t, "a test of the description takes npm, and it is not installed", "install Node.js")
	}
	f := start(t)
	dir := t.TempDir()
	write := func(name, text string) { must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644)) }
	write("package.json", `{"type":"module","private":true,"dependencies":{"@readme/openapi-parser":"5.0.1","openapi-fetch":"0.14.0","openapi-typescript":"7.9.1","typescript":"5.9.2"}}`)
	write("openapi.json", f.ask("GET", "/openapi.json", "").body)
	write("validate.js", `
import { validate } from "@readme/openapi-parser";
const result = await validate("openapi.json");
if (!result.valid) { console.error(JSON.stringify(result, null, 1)); process.exit(1); }
`)
	write("client.ts", `
import createClient from "openapi-fetch";
import type { paths } from "./api.js";
declare const process: { env: Record<string, string> };
const client = createClient<paths>({ baseUrl: process.env.GATEWAY, headers: { Authorization: "Bearer x" } });
const { data, error } = await client.POST("/v1/connect", { params: { query: { wait: "ready" } }, body: { key: { name: "generated" }, spawn_config: { executable: {} } } });
if (!data) throw new Error(error.kind);
const info = await client.GET("/v1/backends/{backend}", { params: { path: { backend: data.backend_id } } });
const none = await client.GET("/v1/backends/{backend}", { params: { path: { backend: "none" } } });
console.log(JSON.stringify({ status: data.status, key: info.data?.key.name, kind: none.error?.kind }));
`)
	write("tsconfig.json", `{"compilerOptions":{"target":"es2022","module":"nodenext","moduleResolution":"nodenext","strict":true,"skipLibCheck":true,"lib":["es2022","dom"],"types":[]},"files":["client.ts"]}`)
	for _, command := range [][]string{
		{"npm", "install", "--no-audit", "--no-fund", "--loglevel=error"},
		{"node", "validate.js"},
		{"npx", "openapi-typescript", "openapi.json", "-o", "api.ts"},
		{"npx", "tsc"},
		{"node", "client.js"},
	} {
		cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GATEWAY="+f.url)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v\n%s", command, err, out)
		}
		if command[1] == "client.js" {
			var said map[string]string
			must(t, json.Unmarshal(out, &said))
			if said["status"] != "ready" || said["key"] != "generated" || said["kind"] != "NotFound" {
				t.Errorf("the client said %s", out)
			}
		}
	}
}
