package client_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/testkit"
)

// command runs a program in a folder, with variables besides its own, and gives what it prints.
func command(t *testing.T, dir string, env []string, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*testkit.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func needs(t *testing.T, programs ...string) {
	t.Helper()
	for _, name := range programs {
		if _, err := exec.LookPath(name); err != nil {
			testkit.LeaveOut(t, name+" is not installed", "install "+name)
		}
	}
}

// The demand: the TypeScript client does with a real worker what its types say, in Node.js, Bun and Deno.
func TestTypeScriptClientWithARealWorker(t *testing.T) {
	t.Parallel()
	testkit.Long(t)
	needs(t, "node", "npm")
	dir := t.TempDir()
	must(t, os.CopyFS(dir, os.DirFS(filepath.Join("..", "client-ts"))))
	command(t, dir, nil, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
	command(t, dir, nil, "npm", "run", "build")
	command(t, dir, nil, "npm", "install", "--no-save", "--no-audit", "--no-fund", "--loglevel=error", "bun@1.4.5", "deno@2.9.6")
	for _, run := range [][]string{
		{"node"},
		{filepath.Join(dir, "node_modules", ".bin", "bun")},
		{filepath.Join(dir, "node_modules", ".bin", "deno"), "run", "--allow-net", "--allow-env", "--allow-read", "--allow-sys"},
	} {
		out := command(t, dir, []string{"NATS_URL=" + startStack(t), "DENO_NO_UPDATE_CHECK=1"}, run[0], append(run[1:], "test/life.mjs")...)
		if !strings.Contains(out, "the life of a backend: ok") {
			t.Errorf("%s: %s", run[0], out)
		}
	}
}

// The demand: with the protocol alone, a program of some 40 lines in Python connects, watches and ends a backend.
func TestPythonExampleWithARealWorker(t *testing.T) {
	t.Parallel()
	testkit.Long(t)
	needs(t, "python3")
	dir := t.TempDir()
	command(t, dir, nil, "python3", "-m", "venv", "venv")
	command(t, dir, nil, "venv/bin/pip", "install", "-q", "--disable-pip-version-check", "nats-py==2.16.0")
	example, err := filepath.Abs(filepath.Join("..", "examples", "session.py"))
	must(t, err)
	out := command(t, dir, []string{"NATS_URL=" + startStack(t), `EXECUTABLE={"fake":{}}`}, filepath.Join(dir, "venv", "bin", "python"), example)
	for _, status := range []string{"scheduled", "ready http://c.test:80/", "terminated"} {
		if !strings.Contains(out, status) {
			t.Errorf("it does not print %q: %s", status, out)
		}
	}
}
