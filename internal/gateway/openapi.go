package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/swaggest/jsonschema-go"
	"github.com/swaggest/openapi-go"
	"github.com/swaggest/openapi-go/openapi31"

	"github.com/jetway-project/jetway/messages"
)

// backendPath and the like are parameters in paths, and in heads.
type (
	backendPath struct {
		Backend string `path:"backend" description:"Id of the backend" maxLength:"45" pattern:"^[a-z0-9-]+$"`
	}
	timeoutHeader struct {
		Timeout string `header:"Jetway-Timeout" description:"How long to wait for workers, a Go duration like 10s; at most 60s"`
	}
	onceHeader struct {
		Once string `header:"Idempotency-Key" description:"Requests with the same one get the same backend, which is started once" maxLength:"255"`
	}
	resumeHeader struct {
		After string `header:"Last-Event-ID" description:"The id of the last event that was got: the stream goes on after it"`
	}
)

// describe writes the description of /v1, in OpenAPI 3.1, from the table of routes and the types of its bodies.
func describe(version string) ([]byte, error) {
	r := openapi31.NewReflector()
	r.Spec.Info.Title = "Jetway"
	r.Spec.Info.Version = version
	if version == "" {
		r.Spec.Info.Version = "0"
	}
	about := "Give a key, get the URL of the one process that owns it. The routes below /pub and /ctrl are Plane's, and not described here."
	r.Spec.Info.Description = &about
	r.Spec.SetHTTPBearerTokenSecurity("token", "", "A token that jetway gateway token made")
	js := r.JSONSchemaReflector()
	js.AddTypeMapping(messages.Status(0), statusName(""))
	js.AddTypeMapping(json.RawMessage{}, map[string]any{})
	js.AddTypeMapping(time.Time{}, instant(""))
	js.DefaultOptions = append(js.DefaultOptions, jsonschema.InterceptProp(requireFields),
		jsonschema.InterceptDefName(func(_ reflect.Type, name string) string {
			return strings.TrimPrefix(strings.TrimPrefix(name, "Messages"), "Gateway")
		}))
	for i := range routes {
		if rt := &routes[i]; rt.summary != "" {
			if err := describeRoute(r, rt); err != nil {
				return nil, fmt.Errorf("describe %s %s: %w", rt.method, rt.path, err)
			}
		}
	}
	return json.Marshal(r.Spec)
}

func describeRoute(r *openapi31.Reflector, rt *route) error {
	oc, err := r.NewOperationContext(rt.method, rt.path)
	if err != nil {
		return err
	}
	oc.SetSummary(rt.summary)
	oc.SetDescription("Takes the scope " + rt.scope + ".")
	oc.SetID(operationID(rt))
	oc.AddSecurity("token")
	for _, in := range []any{rt.in, rt.query, timeoutHeader{}} {
		if in != nil {
			oc.AddReqStructure(in)
		}
	}
	if strings.Contains(rt.path, "{backend}") {
		oc.AddReqStructure(backendPath{})
	}
	if strings.Contains(rt.path, "{template}") {
		oc.AddReqStructure(templatePath{})
	}
	if strings.HasSuffix(rt.path, "/connect") {
		oc.AddReqStructure(onceHeader{})
	}
	if _, only := rt.out.(eventStream); !only {
		oc.AddRespStructure(rt.out, openapi.WithHTTPStatus(http.StatusOK))
	}
	if rt.stream {
		oc.AddReqStructure(resumeHeader{})
		oc.AddRespStructure("", openapi.WithHTTPStatus(http.StatusOK), openapi.WithContentType("text/event-stream"))
	}
	for _, status := range []int{400, 401, 403, 404, 409, 413, 415, 429, 500, 503} {
		oc.AddRespStructure(messages.Error{}, openapi.WithHTTPStatus(status))
		oc.AddRespStructure(problem{}, openapi.WithHTTPStatus(status), openapi.WithContentType(typeProblem))
	}
	return r.AddOperation(oc)
}

// operationID is what a generated client calls it: connect, backend, backendEvents, deleteTemplate.
func operationID(rt *route) string {
	var out strings.Builder
	path := strings.NewReplacer("backends/{backend}", "backend", "templates/{template}", "template").Replace(strings.TrimPrefix(rt.path, "/v1/"))
	switch {
	case rt.method == http.MethodDelete:
		path = "delete/" + path
	case rt.path == "/v1/templates" && rt.method == http.MethodPost:
		path = "put/template"
	}
	for i, part := range strings.Split(path, "/") {
		if i > 0 {
			part = strings.ToUpper(part[:1]) + part[1:]
		}
		out.WriteString(part)
	}
	return out.String()
}

// requireFields says that fields that are never left out are there.
func requireFields(p jsonschema.InterceptPropParams) error {
	tag, ok := p.Field.Tag.Lookup("json")
	if p.Processed && ok && tag != "-" && !strings.Contains(tag, "omitempty") && !strings.Contains(tag, "omitzero") && !slices.Contains(p.ParentSchema.Required, p.Name) {
		p.ParentSchema.Required = append(p.ParentSchema.Required, p.Name)
	}
	return nil
}

// statusName and instant stand for what JSON has as text.
type statusName string

// Enum gives all statuses.
func (statusName) Enum() (all []any) {
	for _, s := range messages.Statuses {
		all = append(all, s.String())
	}
	return all
}

type instant string

// PrepareJSONSchema says that it is a time of RFC 3339.
func (instant) PrepareJSONSchema(s *jsonschema.Schema) error {
	s.WithFormat("date-time")
	return nil
}

func (c *call) describe() (any, error) {
	c.w.Header().Set("Access-Control-Allow-Origin", "*")
	c.w.Header().Set("Cache-Control", "no-cache")
	return json.RawMessage(c.g.openAPI), nil
}
