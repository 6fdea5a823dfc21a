package cli

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// othersFlags are those of other programs that documents name.
var othersFlags = strings.Fields(`--account --allow-pub --allow-root --allow-sub --app --app-dir --audit --browser --bundle --clean --config --controller --dev
	--disable-pip-version-check --environment-file --filter --for --format --hostname --host --if-exists --kill-whom --loglevel --no-audit --no-fund --no-legend --now --other
	--outfile --plain --port --quiet --role --root --server --set --sig-proxy --signal --single-transaction --sk --socket --state --tlsca --turns --user`)

// othersVariables are those that no flag has: what backends and containers get, what files of deploy/ ask for.
var othersVariables = regexp.MustCompile(`^JETWAY_(DRONE|DRONE_CLUSTER|IMAGE|NATS_.*|NKEY_.*|ACTIONS|EVENTS|LOGS|CERTS|TEST_.*|TORTURE_.*|NO_DOWNLOAD|POSTGRES_BIN)$`)

var (
	aFlag     = regexp.MustCompile(`(?:^|[\s(\x60"'\[|/=])(--[a-z][a-z0-9-]*[a-z0-9])`)
	aVariable = regexp.MustCompile(`\bJETWAY_[A-Z][A-Z_]*[A-Z]\b`)
	// aCall is a call of jetway, up to where another program, or what a backend is told, begins.
	aCall = regexp.MustCompile(`\bjetway ((?:[a-z][a-z-]+ )*[a-z][a-z-]*)([^\x60;|&#\n]*)`)
)

// The demand: every document is true: what it calls a flag, or a variable, of jetway is one, and of the command that it is given to.
func TestDocumentsNameFlagsAndVariablesThatThereAre(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..")
	parser, err := newParser(&grammar{}, Process{Stdout: newOutput(), Stderr: newOutput()})
	if err != nil {
		t.Fatal(err)
	}
	all, variables := map[string]bool{"--help": true, "--version": true}, map[string]bool{}
	leaves(t, func(_ []string, flags []*kong.Flag) {
		for _, flag := range flags {
			all["--"+flag.Name], all["--no-"+flag.Name] = true, all["--no-"+flag.Name] || flag.Tag.Negatable != ""
			for _, name := range flag.Envs {
				variables[name] = true
			}
		}
	})
	documents := 0
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && slices.Contains([]string{".git", "node_modules", "testdata", "bin"}, entry.Name()):
			return filepath.SkipDir
		case filepath.Ext(path) != ".md" || entry.Name() == "CHANGELOG.md": // which tells what was
			return nil
		}
		documents++
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for n, line := range strings.Split(string(data), "\n") {
			for _, name := range aVariable.FindAllString(line, -1) {
				if !variables[name] && !othersVariables.MatchString(name) {
					t.Errorf("%s:%d: there is no variable %s", path, n+1, name)
				}
			}
			for _, found := range aFlag.FindAllStringSubmatch(line, -1) {
				if !all[found[1]] && !slices.Contains(othersFlags, found[1]) {
					t.Errorf("%s:%d: no command has the flag %s", path, n+1, found[1])
				}
			}
			for _, call := range aCall.FindAllStringSubmatch(line, -1) {
				node, given := parser.Model.Node, map[string]bool{"--help": true, "--version": true}
				for _, word := range append([]string{""}, strings.Fields(call[1])...) {
					for _, child := range node.Children {
						if child.Name == word {
							node = child
						}
					}
				}
				if node == parser.Model.Node {
					continue // prose
				}
				if node.DefaultCmd != nil {
					node = node.DefaultCmd
				}
				for at := node; at != nil; at = at.Parent {
					for _, flag := range at.Flags {
						given["--"+flag.Name] = true
					}
				}
				rest, _, _ := strings.Cut(call[2], " -- ")
				for _, found := range aFlag.FindAllStringSubmatch(rest, -1) {
					if all[found[1]] && !given[found[1]] {
						t.Errorf("%s:%d: %s has no flag %s", path, n+1, node.FullPath(), found[1])
					}
				}
			}
		}
		return nil
	})
	if err != nil || documents < 10 {
		t.Fatalf("%d documents, %v", documents, err)
	}
}
