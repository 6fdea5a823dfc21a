package cli

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// parsing gives the command line as it was read.
func parsing(t *testing.T, args ...string) (*grammar, error) {
	t.Helper()
	g := &grammar{}
	parser, err := newParser(g, Process{Stdout: newOutput(), Stderr: newOutput()})
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := parser.Parse(args)
	if err == nil {
		err = missing(parsed)
	}
	return g, err
}

// leaves gives all commands, with what they need.
func leaves(t *testing.T, visit func(args []string, flags []*kong.Flag)) {
	t.Helper()
	parser, err := newParser(&grammar{}, Process{Stdout: newOutput(), Stderr: newOutput()})
	if err != nil {
		t.Fatal(err)
	}
	var descend func(node *kong.Node, args []string, flags []*kong.Flag)
	descend = func(node *kong.Node, args []string, flags []*kong.Flag) {
		flags = append(slices.Clip(flags), node.Flags...)
		for _, child := range node.Children {
			descend(child, append(slices.Clip(args), child.Name), flags)
		}
		if len(node.Children) > 0 {
			return
		}
		for _, flag := range flags {
			if flag.Required {
				args = append(args, "--"+flag.Name, "x")
			}
		}
		for _, argument := range node.Positional {
			if argument.Required {
				args = append(args, "x")
			}
		}
		visit(args, flags)
	}
	descend(parser.Model.Node, nil, nil)
}

// The demand: an empty value of any flag, or of any variable, means that it is not given.
func TestEmptyIsUnset(t *testing.T) {
	t.Setenv("JETWAY_TIMEOUT", "") // which TestMain sets
	commands, tried := 0, 0
	leaves(t, func(args []string, flags []*kong.Flag) {
		command := "jetway " + strings.Join(args, " ")
		bare, err := parsing(t, args...)
		if err != nil {
			t.Fatalf("%s: %v", command, err)
		}
		given := args
		for _, flag := range flags {
			for _, name := range flag.Envs {
				t.Setenv(name, "")
			}
			switch {
			case flag.Name == "help" || emptyIsValue(flag.Value):
			case !flag.Required:
				given = append(given, "--"+flag.Name+"=")
				tried++
			case !flag.IsCumulative(): // those add up
				if _, err := parsing(t, append(slices.Clip(args), "--"+flag.Name+"=")...); err == nil || !strings.Contains(err.Error(), "missing flags: --"+flag.Name) {
					t.Errorf("%s --%s=: %v", command, flag.Name, err)
				}
			}
		}
		commands++
		for how, args := range map[string][]string{"empty variables": args, "empty flags": given} {
			if got, err := parsing(t, args...); err != nil || !reflect.DeepEqual(got, bare) {
				t.Errorf("%s with %s: %v, or something else than without", command, how, err)
			}
		}
	})
	if commands < 20 || tried < 200 {
		t.Errorf("only %d flags of %d commands were tried", tried, commands)
	}
}

// An empty value on the command line leaves what the variable says, as if it were not given, and
// adds nothing to what was given before; what stands in the variable is read as ever.
func TestEmptyLeavesWhatElseIsSaid(t *testing.T) {
	t.Setenv("JETWAY_PROCESS_ROOT", "/srv")
	t.Setenv("JETWAY_GRACE", "3s")
	t.Setenv("JETWAY_DOCKER_LABEL", "a=b")
	g, err := parsing(t, "drone", "--cluster", "x", "--process-root", "", "--grace=", "--docker-label=", "--docker-log-opt", "c=d", "--docker-log-opt=")
	if err != nil {
		t.Fatal(err)
	}
	d := g.Drone
	if d.ProcessRoot != "/srv" || d.Grace.String() != "3s" || d.DockerLabel["a"] != "b" || len(d.DockerLogOpt) != 1 || d.DockerLogOpt["c"] != "d" {
		t.Errorf("it reads %q, %s, %v, %v", d.ProcessRoot, d.Grace, d.DockerLabel, d.DockerLogOpt)
	}
	g, err = parsing(t, "connect", "--command", "x", "--command", "")
	if err != nil || len(g.Connect.Command) != 2 {
		t.Errorf("an empty word of a command is lost: %q, %v", g.Connect.Command, err)
	}
}

// The demand: an unset variable in a compose file does not make / the root of what may run.
func TestAnEmptyProcessRootIsNone(t *testing.T) {
	t.Setenv("JETWAY_PROCESS_ROOT", "")
	_, stderr, code := jetway(t, "drone", "--cluster", "a")
	if code != ExitUsage || !strings.Contains(stderr, "--process-root: name the directory") {
		t.Errorf("%d, %s", code, stderr)
	}
}
