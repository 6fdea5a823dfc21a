package process_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/process"
)

func writeScript(root, name, body string) error {
	// A descriptor open for writing that a fork of another test inherits for a moment
	// makes exec fail with ETXTBSY.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	draft := filepath.Join(root, name+".draft")
	if err := os.WriteFile(draft, []byte("#!/bin/sh\n"+body+"\n"), 0o755); err != nil {
		return err
	}
	return os.Rename(draft, filepath.Join(root, name))
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	outside := t.TempDir()
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ok(writeScript(outside, "outside", "exit 0"))
	ok(os.Symlink(filepath.Join(outside, "outside"), filepath.Join(s.root, "absolute-link")))
	ok(os.Symlink("../"+filepath.Base(outside)+"/outside", filepath.Join(s.root, "relative-link")))
	ok(os.Symlink(outside, filepath.Join(s.root, "dir-link")))
	ok(os.Symlink("loop", filepath.Join(s.root, "loop")))
	ok(os.Mkdir(filepath.Join(s.root, "dir"), 0o755))
	ok(os.WriteFile(filepath.Join(s.root, "plain"), []byte("text"), 0o644))
	ok(syscall.Mkfifo(filepath.Join(s.root, "fifo"), 0o755))
	ok(writeScript(s.root, "setuid", "exit 0"))
	ok(os.Chmod(filepath.Join(s.root, "setuid"), 0o755|os.ModeSetuid))

	long := strings.Repeat("x", 40_000)
	for executable, want := range map[string]string{
		``:                                        "it is empty",
		`null`:                                    "command is empty",
		`[]`:                                      "want {",
		`"room"`:                                  "want {",
		`{}`:                                      "command is empty",
		`{"command": []}`:                         "command is empty",
		`{"command": "room"}`:                     "want {",
		`{"command": [null]}`:                     "a string is wanted",
		`{"command": [1]}`:                        "a string is wanted",
		`{"command": ["helper"]} x`:               "after top-level value",
		`{"image": "room"}`:                       "image: is no field that there is",
		`{"command": [""]}`:                       "command[0] is empty",
		`{"command": ["/bin/sh"]}`:                "absolute path",
		`{"command": ["../x"]}`:                   "leads out of",
		`{"command": ["a/../../x"]}`:              "leads out of",
		`{"command": [".."]}`:                     "leads out of",
		`{"command": ["."]}`:                      "not a regular file",
		`{"command": ["dir"]}`:                    "not a regular file",
		`{"command": ["fifo"]}`:                   "not a regular file",
		`{"command": ["plain"]}`:                  "not executable",
		`{"command": ["missing"]}`:                "does not exist",
		`{"command": ["helper/x"]}`:               "cannot be used",
		`{"command": ["loop"]}`:                   "cannot be used",
		`{"command": ["absolute-link"]}`:          "escapes",
		`{"command": ["relative-link"]}`:          "escapes",
		`{"command": ["dir-link/outside"]}`:       "escapes",
		`{"command": ["setuid"]}`:                 "setuid",
		`{"command": ["helper\u0000"]}`:           "NUL",
		`{"command": ["helper", "a\u0000b"]}`:     "command[1] contains a NUL",
		`{"command": ["helper", "` + long + `"]}`: "at most 32768",
		`{"command": [` + strings.Repeat(`"a",`, 300) + `"a"]}`:                                   "at most 256",
		`{"command": ["a", ` + strings.Repeat(`"`+long[:30_000]+`",`, 5) + `"a"]}`:                "hold 150",
		`{"command": ["helper"], "env": []}`:                                                      "want {",
		`{"command": ["helper"], "env": {"A": null}}`:                                             "a string is wanted",
		`{"command": ["helper"], "env": {"A": 1}}`:                                                "a string is wanted",
		`{"command": ["helper"], "env": {"": "x"}}`:                                               "empty name",
		`{"command": ["helper"], "env": {"A=B": "x"}}`:                                            "`=` or a NUL",
		`{"command": ["helper"], "env": {"A\u0000": "x"}}`:                                        "`=` or a NUL",
		`{"command": ["helper"], "env": {"A": "x\u0000"}}`:                                        "NUL",
		`{"command": ["helper"], "resource_limits": 1}`:                                           "want {",
		`{"command": ["helper"], "resource_limits": {"memory": 1}}`:                               "want {",
		`{"command": ["helper"], "resource_limits": {"memory_limit_bytes": 0}}`:                   "memory_limit_bytes is 0; it must be",
		`{"command": ["helper"], "resource_limits": {"memory_limit_bytes": -1}}`:                  "memory_limit_bytes is -1; it must be",
		`{"command": ["helper"], "resource_limits": {"cpu_period_percent": 0}}`:                   "cpu_period_percent is 0; it must be",
		`{"command": ["helper"], "resource_limits": {"memory_limit_bytes": 9223372036854775807}}`: "memory_limit_bytes is 9223372036854775807; it must be",
		`{"command": ["helper"], "resource_limits": {"memory_limit_bytes": 1e30}}`:                "want {",
		`{"command": ["helper"], "resource_limits": {"cpu_period_percent": 100001}}`:              "cpu_period_percent is 100001; it must be",
		`{"command": ["helper"], "resource_limits": {"cpu_period": -5}}`:                          "cpu_period is -5; it must be",
		`{"command": ["helper"], "resource_limits": {"pids_limit": 0}}`:                           "pids_limit is 0; it must be 1 to 4096",
		`{"command": ["helper"], "resource_limits": {"pids_limit": 4097}}`:                        "pids_limit is 4097; it must be 1 to 4096",
		`{"command": ["helper"], "resource_limits": {"disk_limit_bytes": 1e9}}`:                   "is for containers",
		`{"command": ["helper"], "resource_limits": {"disk_limit_bytes": 9000000}}`:               "is for containers",
		`{"command": ["helper"], "env": {"SESSION_BACKEND_ID": "1"}}`:                             "set by the drone",
		`{"command": ["helper"], "env": {"A": "` + long + `"}}`:                                   "at most 32768",
	} {
		spec := runtime.Spec{BackendID: "b", Executable: json.RawMessage(executable)}
		prepareErr := s.Prepare(t.Context(), spec)
		_, startErr := s.Start(t.Context(), spec)
		for _, err := range []error{prepareErr, startErr} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%.60s: got error %v, want one with %q", executable, err, want)
			} else if strings.Contains(err.Error(), s.root) || len(err.Error()) > 600 {
				t.Errorf("%.60s: the error tells too much: %v", executable, err)
			}
		}
	}
}

func TestStartErrorIsTheReason(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	if err := os.WriteFile(filepath.Join(s.root, "garbage"), []byte("\x7fELF not really"), 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := s.Start(t.Context(), runtime.Spec{BackendID: "b", Executable: []byte(`{"command": ["garbage"]}`)})
	if err == nil || !strings.Contains(err.Error(), "exec format error") || strings.Contains(err.Error(), s.root) {
		t.Fatalf("got %v", err)
	}
}

func TestSymlinksInsideTheRootWork(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	if err := os.Mkdir(filepath.Join(s.root, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../helper", filepath.Join(s.root, "bin", "room")); err != nil {
		t.Fatal(err)
	}
	spec := s.spec()
	spec.Executable = []byte(`{"command": ["bin/room", "as=show"]}`)
	s.exit(s.start(spec))
	if args := s.line("args "); !strings.HasSuffix(args, "/bin/room as=show") {
		t.Fatalf("args %q", args)
	}
}

// No path made of these parts starts anything but the program inside.
func TestNoPathLeadsOutOfTheRoot(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	root := filepath.Join(parent, "root")
	for _, dir := range []string{root, filepath.Join(root, "in")} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for dir, name := range map[string]string{parent: "prog", filepath.Join(root, "in"): "good"} {
		if err := writeScript(dir, name, "exit 0"); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{"up": "..", "top": "/", "same": ".", "abs": parent, "inside": "in"} {
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	r, err := process.New(process.Config{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.SliceOfN(rapid.SampledFrom([]string{
			"..", ".", "", "in", "up", "top", "same", "abs", "inside", "prog", "good", "bin", "sh", "root", parent,
		}), 1, 6).Draw(t, "parts")
		path := strings.Join(parts, "/")
		executable, err := json.Marshal(map[string]any{"command": []string{path}})
		if err != nil {
			t.Fatal(err)
		}
		if r.Prepare(t.Context(), runtime.Spec{Executable: executable}) != nil {
			return
		}
		real, err := filepath.EvalSymlinks(filepath.Join(root, path))
		if err != nil || real != filepath.Join(root, "in", "good") {
			t.Fatalf("%q was accepted and leads to %q (%v)", path, real, err)
		}
	})
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	root := newRoot(t)
	for want, config := range map[string]process.Config{
		"not set":                   {},
		"no such file":              {Root: filepath.Join(root, "missing")},
		"is not a directory":        {Root: filepath.Join(root, "helper")},
		"directory of the backends": {Root: root, Dir: filepath.Join(root, "missing")},
		"cannot listen there":       {Root: root, Host: "192.0.2.1"},
		"must not be negative":      {Root: root, LogLines: -1},
	} {
		if r, err := process.New(config); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, %v, want an error with %q", r, err, want)
		}
	}
}
