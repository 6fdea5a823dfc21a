package docker_test

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/docker"
)

// What can be told from the text of an executable.
func TestRefusedByText(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	const secret = "hunter2hunter2"
	for executable, want := range map[string]string{
		``:                                  "it is empty",
		`null`:                              "image is empty",
		`[]`:                                "want {",
		`{}`:                                "image is empty",
		`{"image": null}`:                   "a string is wanted",
		`{"image": 1}`:                      "a string is wanted",
		`{"image": "a"} x`:                  "after top-level value",
		`{"command": ["room"]}`:             "command: is no field that there is",
		`{"image": "A B"}`:                  "give it as [registry/]name[:tag]",
		`{"image": "UPPER"}`:                "must be lowercase",
		`{"image": "a\u0000"}`:              "invalid reference format",
		`{"image": "a:b:c"}`:                "invalid reference format",
		`{"image": "../a"}`:                 "invalid reference format",
		`{"image": "a", "pull_policy": ""}`: "pull_policy",
		`{"image": "a", "pull_policy": "Sometimes"}`:                                                    "give IfNotPresent, Always or Never",
		`{"image": "a", "credentials": "user:` + secret + `"}`:                                          "executable:",
		`{"image": "a", "credentials": {"username": "u", "password": 1` + `23456789}}`:                  "want a string each",
		`{"image": "a", "credentials": {"username": "u", "password": ["` + secret + `"]}}`:              "want a string each",
		`{"image": "a", "credentials": {"username": "", "password": "` + secret + `"}}`:                 "need a username and a password",
		`{"image": "a", "credentials": {"username": "u", "password": "` + secret + `", "x": 1}}`:        "credentials.x: is no field that there is",
		`{"image": "a", "credentials": {"username": "u", "password": "` + secret + `"}, "mount": "/x"}`: "is not the name of one folder",
		`{"image": "a", "env": []}`:                                                                    "want {",
		`{"image": "a", "env": {"A": null}}`:                                                           "a string is wanted",
		`{"image": "a", "env": {"": "x"}}`:                                                             "empty name",
		`{"image": "a", "env": {"A=B": "x"}}`:                                                          "`=` or a NUL",
		`{"image": "a", "env": {"A": "x\u0000"}}`:                                                      "NUL",
		`{"image": "a", "env": {"SESSION_BACKEND_ID": "1"}}`:                                           "set by the drone",
		`{"image": "a", "resource_limits": {"cpu_period": 999}}`:                                       "cpu_period is 999; it must be 1000 to 1000000",
		`{"image": "a", "resource_limits": {"cpu_period": 1000001}}`:                                   "cpu_period",
		`{"image": "a", "resource_limits": {"cpu_period": 1e9}}`:                                       "cpu_period",
		`{"image": "a", "resource_limits": {"cpu_period_percent": 0}}`:                                 "cpu_period_percent",
		`{"image": "a", "resource_limits": {"cpu_period": 1000, "cpu_period_percent": 50}}`:            "under the kernel's least",
		`{"image": "a", "resource_limits": {"cpu_time_limit": -1}}`:                                    "cpu_time_limit",
		`{"image": "a", "resource_limits": {"memory_limit_bytes": 1024}}`:                              "memory_limit_bytes is 1024",
		`{"image": "a", "resource_limits": {"memory_limit_bytes": 1.5}}`:                               "memory_limit_bytes",
		`{"image": "a", "resource_limits": {"memory_limit_bytes": "1g"}}`:                              "memory_limit_bytes",
		`{"image": "a", "resource_limits": {"memory_limit_bytes": 99999999999999999999}}`:              "memory_limit_bytes",
		`{"image": "a", "resource_limits": {"disk_limit_bytes": 0}}`:                                   "disk_limit_bytes",
		`{"image": "a", "resource_limits": {"memory": 1}}`:                                             "resource_limits.memory: is no field that there is",
		`{"image": "a", "mount": 1}`:                                                                   "mount wants",
		`{"image": "a", "mount": ""}`:                                                                  "mount wants",
		`{"image": "a", "mount": "/etc"}`:                                                              "is not the name of one folder",
		`{"image": "a", "mount": ".."}`:                                                                "is not the name of one folder",
		`{"image": "a", "mount": "."}`:                                                                 "is not the name of one folder",
		`{"image": "a", "mount": "a/../.."}`:                                                           "is not the name of one folder",
		`{"image": "a", "mount": "a\u0000"}`:                                                           "NUL",
		`{"image": "a", "mount": true}`:                                                                "offers no mounts",
		`{"image": "a", "network_name": "host"}`:                                                       "not allowed",
		`{"image": "a", "network_name": "none"}`:                                                       "not allowed",
		`{"image": "a", "network_name": "container:x"}`:                                                "is not the name of a network",
		`{"image": "a", "network_name": ""}`:                                                           "is not the name of a network",
		`{"image": "a", "env": {` + longEnv() + `}}`:                                                   "at most 256",
		`{"image": "a", "env": {"A": "` + strings.Repeat("x", 40_000) + `"}}`:                          "at most 32768",
		`{"image": "sha256:` + strings.Repeat("a", 64) + `", "pull_policy": "Always"}`:                 "an id cannot be pulled",
		`{"image": "` + strings.Repeat("a", 300) + `"}`:                                                "must not be more than 255",
		`{"image": "a", "credentials": {"username": "u", "password": "` + secret + `"}, "mount": "a"}`: "offers no mounts",
	} {
		spec := runtime.Spec{BackendID: newID(), Key: "k", Executable: json.RawMessage(executable)}
		err := s.Prepare(t.Context(), spec)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80s: got error %v, want one with %q", executable, err, want)
			continue
		}
		if strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "23456789") || len(err.Error()) > 900 {
			t.Errorf("%.80s: the error tells too much: %v", executable, err)
		}
		if _, err := s.Start(t.Context(), spec); err == nil {
			t.Errorf("%.80s: was started", executable)
		}
	}
}

func longEnv() string {
	var b strings.Builder
	for n := range 300 {
		b.WriteString(`"A` + strings.Repeat("x", n) + `": "", `)
	}
	return b.String() + `"B": ""`
}

// What Plane's clients send as null is as if it were left out.
func TestNullIsNothing(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	instance := s.start(s.spec("exit 0", "credentials", nil, "pull_policy", nil, "mount", nil, "network_name", nil,
		"resource_limits", map[string]any{"cpu_period": nil, "memory_limit_bytes": nil}))
	if exit := s.exit(instance); exit.Code != 0 {
		t.Fatalf("ended with %v", exit)
	}
}

func TestRefusedByTheEngine(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	for name, try := range map[string]struct {
		fields []any
		want   []string
	}{
		"missing command":        {[]any{"image", image(t, "missing")}, []string{"image", "/missing", "no such file or directory"}},
		"command not executable": {[]any{"image", image(t, "plain")}, []string{"/plain", "permission denied"}},
		"no command":             {[]any{"image", image(t, "nothing")}, []string{"No command specified"}},
		"never, not there":       {[]any{"image", imageName("not-there"), "pull_policy", "Never"}, []string{"not on the drone's machine", "Never"}},
		"missing network":        {[]any{"network_name", "jetway-nowhere"}, []string{`network_name "jetway-nowhere" does not exist`}},
		"disk not limited": {
			[]any{"resource_limits", map[string]any{"disk_limit_bytes": 1 << 30}},
			[]string{"disk_limit_bytes", "storage driver", "leave it out"},
		},
	} {
		said := s.refused(s.spec("exit 0", try.fields...))
		for _, want := range try.want {
			if !strings.Contains(said, want) {
				t.Errorf("%s: %q is not in %q", name, want, said)
			}
		}
		if len(said) > 1000 {
			t.Errorf("%s: %d bytes of error", name, len(said))
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	good := newStage(t, nil).config
	for want, change := range map[string]func(*docker.Config){
		"drone: not named":           func(c *docker.Config) { c.Drone = "" },
		"docker host":                func(c *docker.Config) { c.Engine = "nonsense" },
		"unix:///nowhere/d.sock":     func(c *docker.Config) { c.Engine = "unix:///nowhere/d.sock" },
		"must be an IP address":      func(c *docker.Config) { c.Host = "localhost" },
		"cannot listen there":        func(c *docker.Config) { c.Host = "192.0.2.1" },
		"does not begin with":        func(c *docker.Config) { c.Labels = map[string]string{"io.jetway.drone": "x"} },
		"mount base":                 func(c *docker.Config) { c.MountBase = "relative" },
		"mount base: stat":           func(c *docker.Config) { c.MountBase = filepath.Join(t.TempDir(), "missing") },
		"may be on another machine":  func(c *docker.Config) { c.Engine, c.MountBase = "tcp://127.0.0.1:1", t.TempDir() },
		"state directory":            func(c *docker.Config) { c.StateDir = "relative" },
		"state directory: mkdir":     func(c *docker.Config) { c.StateDir = "/dev/null/state" },
		"must not be negative":       func(c *docker.Config) { c.PruneImages = -time.Second },
		"log bytes at least":         func(c *docker.Config) { c.LogBytes = 1 },
		"docker host tcp://127.0.0.": func(c *docker.Config) { c.Engine = "tcp://127.0.0.1:1" },
	} {
		config := good
		change(&config)
		if r, err := docker.New(t.Context(), config); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, %v, want an error with %q", r, err, want)
		}
	}
}
