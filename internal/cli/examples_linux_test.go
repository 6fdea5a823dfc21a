package cli

import (
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/dev"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// examples is the root of a drone that runs the examples of deploy, those in Go compiled.
func examples(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	if err := os.CopyFS(root, os.DirFS("../../deploy/examples")); err != nil {
		t.Fatal(err)
	}
	built, packages := t.TempDir(), "github.com/jetway-project/jetway/deploy/examples/go/"
	if err := testkit.Build(t.Context(), built, packages+"hello", packages+"spare", packages+"ask"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"hello", "spare", "ask"} {
		if err := os.Rename(filepath.Join(built, name), filepath.Join(root, "go", name, name)); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func needs(t *testing.T, program, install string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		testkit.LeaveOut(t, "examples take "+program, install)
	}
}

// The demand: the examples that the README names run as they are: programs in Python, Node.js and Go, each told who visits.
func TestExamplesOfBackends(t *testing.T) {
	t.Parallel()
	needs(t, "python3", "install python3")
	needs(t, "node", "install nodejs")
	s := newSite(t, "process")
	s.agent(t.TempDir(), "", "--process-root", examples(t))
	ran := s.connect("sandbox", map[string]any{"command": []string{"python/sandbox/sandbox.py"}})
	for _, program := range []string{"python/hello.py", "node/hello.mjs", "go/hello/hello"} {
		held := s.connect(program, map[string]any{"command": []string{program}})
		s.awaitStatus(held.BackendID, messages.Ready)
		if code, page := get(t, held.URL); code != http.StatusOK || !strings.HasPrefix(page, "hello stranger, this is "+program+", visit 1") {
			t.Errorf("%s: %d %s", program, code, page)
		}
	}
	s.awaitStatus(ran.BackendID, messages.Ready)
	resp, err := http.Post(ran.URL+"run", "text/x-python", strings.NewReader("print(6 * 7)"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(body), `"stdout": "42\n"`) {
		t.Errorf("the sandbox says %s: %v", body, err)
	}
}

// The demand: so do the web tiers in Python, Node.js and Go, with the clients of NATS that their users install.
func TestExamplesOfWebTiers(t *testing.T) {
	testkit.Long(t) // it downloads the clients
	t.Parallel()
	needs(t, "python3", "install python3 and python3-venv")
	needs(t, "npm", "install nodejs and npm")
	root, tools := examples(t), t.TempDir()
	stack, err := dev.Start(testkit.Context(t), dev.Config{Data: stackData(t), ProcessRoot: root, Log: testkit.Logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stack.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	do := func(dir, name string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(testkit.Context(t), name, args...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "NATS_URL="+stack.NATSURL)
		cmd.Stderr = t.Output()
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s %v: %v", name, args, err)
		}
		return strings.TrimSpace(string(out))
	}
	do(tools, "python3", "-m", "venv", "py")
	do(tools, "py/bin/pip", "install", "-q", "--disable-pip-version-check", "nats-py==2.16.0")
	do(filepath.Join(root, "node"), "npm", "install", "--no-save", "--silent", "@nats-io/transport-node@3.4.0")
	for tier, run := range map[string][]string{
		"Python":  {filepath.Join(tools, "py/bin/python3"), filepath.Join(root, "python/ask.py")},
		"Node.js": {"node", filepath.Join(root, "node/ask.mjs")},
		"Go":      {filepath.Join(root, "go/ask/ask")},
	} {
		run = append(run, "of "+tier, "go/hello/hello", "Zoë")
		if code, page := get(t, do(root, run[0], run[1:]...)); code != http.StatusOK || !strings.HasPrefix(page, "hello Zoë, this is of "+tier) {
			t.Errorf("%s: %d %s", tier, code, page)
		}
	}
}

// The demand: so do the collaborative documents: two people, led by the Express tier, write into one document.
func TestExampleOfCollaborativeDocuments(t *testing.T) {
	testkit.Long(t) // it downloads the packages
	t.Parallel()
	needs(t, "npm", "install nodejs and npm")
	root := examples(t)
	dir := filepath.Join(root, "node", "yjs")
	node := func(name string, args ...string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir, cmd.Stderr = dir, t.Output()
		return cmd
	}
	if err := node("npm", "install", "--no-audit", "--no-fund", "--silent").Run(); err != nil {
		t.Fatal(err)
	}
	stack, err := dev.Start(testkit.Context(t), dev.Config{Data: stackData(t), ProcessRoot: root, Log: testkit.Logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stack.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	said := newOutput()
	tier := node("node", "tier.mjs")
	tier.Env, tier.Stdout = append(os.Environ(), "NATS_URL="+stack.NATSURL, "TIER_PORT=0"), said
	if err := tier.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tier.Process.Kill(); _ = tier.Wait() })
	page := said.await(t, `http://\S+/doc/one`)[0]
	seen, err := node("node", "check.mjs", page).Output()
	if err != nil || strings.TrimSpace(string(seen)) != "11" {
		t.Errorf("two who write see %s: %v", seen, err)
	}
	if _, html := get(t, page); !strings.Contains(html, "<textarea") {
		t.Errorf("the page is %s", html)
	}
}
