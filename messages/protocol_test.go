package messages_test

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
)

// spokenOf are the sections of PROTOCOL.md that say what the fields of a payload mean.
var spokenOf = map[string][]string{
	"Action":                {"Actions", "sleep"},
	"BackendInfo":           {"status", "listings", "drones", "Events", "sleep", "connect", "resume"},
	"BackendsRequest":       {"listings"},
	"BackendsResponse":      {"listings"},
	"Challenge":             {"Certificates"},
	"ConnectRequest":        {"connect"},
	"ConnectResponse":       {"connect", "Events"},
	"Crashes":               {"status"},
	"Deadlines":             {"drones"},
	"DrainRequest":          {"drain, undrain"},
	"DrainResponse":         {"drain, undrain"},
	"DroneEvent":            {"Events"},
	"DroneInfo":             {"listings", "drones"},
	"DronesRequest":         {"listings"},
	"DronesResponse":        {"listings"},
	"Error":                 {"Errors", "drones"},
	"ForgetRequest":         {"forget"},
	"HeartbeatRequest":      {"drones"},
	"HeartbeatResponse":     {"drones"},
	"KeepaliveRequest":      {"proxies", "sleep"},
	"Key":                   {"connect"},
	"ListTemplatesRequest":  {"templates", "listings"},
	"ListTemplatesResponse": {"templates", "listings"},
	"Load":                  {"drones"},
	"KeyInfo":               {"keys"},
	"KeysRequest":           {"keys"},
	"KeysResponse":          {"keys"},
	"LogLine":               {"Output lines"},
	"NapRequest":            {"sleep"},
	"NapResponse":           {"sleep"},
	"Presented":             {"Certificates"},
	"PutTemplateResponse":   {"templates"},
	"RegisterRequest":       {"drones", "sleep"},
	"RegisterResponse":      {"drones"},
	"Report":                {"drones", "sleep"},
	"ReportRequest":         {"drones"},
	"RetryRequest":          {"retry"},
	"RetryResponse":         {"retry"},
	"RevokeRequest":         {"revoke"},
	"RevokeResponse":        {"revoke"},
	"RouteRequest":          {"proxies"},
	"RouteResponse":         {"proxies"},
	"SleepEvent":            {"Events", "sleep"},
	"SpareState":            {"drones", "templates"},
	"Spawn":                 {"Actions"},
	"SpawnConfig":           {"connect"},
	"SpawnTemplate":         {"Actions", "templates"},
	"StateEvent":            {"Events", "drones", "status", "resume"},
	"Stats":                 {"Statistics"},
	"StatusRequest":         {"status", "Requests and replies"},
	"Template":              {"templates", "connect"},
	"TemplateDrone":         {"templates"},
	"TemplateInfo":          {"templates", "connect"},
	"TemplateRequest":       {"templates"},
	"TemplatesRequest":      {"drones"},
	"TemplatesResponse":     {"drones"},
	"Terminate":             {"Actions", "terminate"},
	"TerminateRequest":      {"terminate"},
	"TokenEvent":            {"Events"},
}

// The demand: PROTOCOL.md names every field of every payload where it speaks of that payload.
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
	code := make(map[string]string) // what stands in backquotes, by section
	for _, section := range regexp.MustCompile(`(?m)^#{1,3} `).Split(string(page), -1) {
		title, text, _ := strings.Cut(section, "\n")
		code[title] = strings.Join(regexp.MustCompile("`[^`]+`").FindAllString(text, -1), " ")
	}
	for payload, def := range schema.Defs {
		if len(def.Properties) == 0 {
			continue // a list of words
		}
		var where strings.Builder
		for _, section := range spokenOf[payload] {
			where.WriteString(code[section] + " ")
			if code[section] == "" {
				t.Errorf("PROTOCOL.md has no section %q", section)
			}
		}
		for field := range def.Properties {
			if !regexp.MustCompile(`(^|[^a-z_])` + field + `($|[^a-z_])`).MatchString(where.String()) {
				t.Errorf("PROTOCOL.md does not name %s.%s in %q", payload, field, spokenOf[payload])
			}
		}
	}
}
