package cli

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"github.com/jetway-project/jetway/messages"
)

// Every one of these is refused before anything is connected to, in one line
// that names the flag, with the code for wrong use.
func TestUsage(t *testing.T) {
	t.Parallel()
	for args, line := range map[string]string{
		"connect":         "--key: give a key to join, or --command or --template to start something, or both",
		"connect --tag t": "--key: must not be empty",
		"connect --key a --max-idle 1500ms --command x":                 "--max-idle: must be whole seconds, 1s at least, not 1.5s (usage): see jetway connect --help",
		"connect --key a --lifetime 1x --command x":                     "--lifetime: ",
		"connect --key a --auth []":                                     "--auth: must be a JSON object",
		"connect --key a --auth {":                                      "--auth: is not JSON",
		"connect --key a --command x --executable {}":                   "--executable: give it or --command, not both",
		"connect --key a --executable x":                                "--executable: is not JSON",
		"connect --key a --executable []":                               "--executable: must be a JSON object",
		"connect --key a --env A=b":                                     "--env: needs --command",
		"connect --key a --env A --command x":                           "--env: ",
		"connect --key a --command x --id A":                            "--id: must have 1 to 45 characters",
		"connect --key a --command x --cluster a_b":                     "--cluster: must be a hostname",
		"connect --key a --command x --subdomain a.b":                   "--subdomain: must be one DNS label",
		"connect --key a --timeout 2m":                                  "--timeout: must be 1ms to 60s, not 2m0s",
		"connect --key a --tls-key x":                                   "--tls-cert and --tls-key: give both or none",
		"connect --key a --nkey /nowhere/x":                             "",
		"status":                                                        "BACKEND: is missing; name a backend's id, or a key with --key (usage): see jetway status --help",
		"status a --key doc":                                            "--key: give it or a backend's id, not both",
		"terminate --namespace n a":                                     "--namespace: needs --key",
		"status a.b":                                                    "BACKEND: must have 1 to 45 characters",
		"watch >":                                                       "BACKEND: must have 1 to 45 characters",
		"terminate *":                                                   "BACKEND: must have 1 to 45 characters",
		"backends --drone x":                                            `--drone: must be "dr-"`,
		"worker --postgres :: --name x":                                 `--name: must be "wo-"`,
		"worker --postgres ://":                                         "--postgres: ",
		"worker --postgres x --default-cluster a_b":                     "--default-cluster: must be a hostname",
		"connect --key a --command x --cluster 10.0.0.1:80 --origin":    "--origin: takes a cluster with a name",
		"worker --postgres x --default-cluster 10.0.0.1 --origin":       "--origin: takes a cluster with a name",
		"worker --postgres x --postgres-conns 0":                        "--postgres-conns: must be 1 to 1000, not 0",
		"worker --postgres host=x --metrics-addr x":                     "--metrics-addr: ",
		"worker --postgres host=x --otlp-endpoint x":                    "--otlp-endpoint: the OTLP endpoint must be a URL",
		"drone --cluster a --runtime fake --otlp-endpoint 127.0.0.1:43": "--otlp-endpoint: ",
		"drone":                                                     "missing flags: --cluster=HOST[:PORT]",
		"drone --cluster a":                                         "--process-root: name the directory",
		"worker --postgres :: --retain 59s":                         "--retain: must be at least 1m",
		"worker --postgres :: --lease-ttl 14s":                      "--lease-ttl: must be 15s to 1h",
		"dev --lease-ttl 61m":                                       "--lease-ttl: must be 15s to 1h",
		"dev --retain 59s":                                          "--retain: must be at least 1m",
		"worker --postgres :: --start-within 59s":                   "--start-within: must be at least 1m",
		"drone --cluster a --process-root /nowhere":                 "--process-root: ",
		"drone --cluster a --process-root / --data-dir /proc/x":     "--data-dir: ",
		"drone --cluster a --name dr-A":                             `--name: must be "dr-"`,
		"drone --cluster a --runtime fake --max-memory lots":        `--max-memory: must be a number of bytes like 8GiB or 500MB, up to 1PiB, not "lots"`,
		"drone --cluster a --runtime fake --max-memory 0":           "--max-memory: must be a number of bytes",
		"drone --cluster a --runtime fake --max-cpus 0.0001":        "--max-cpus: must be 0 (no limit) or 0.001 to 1000000, not 0.0001",
		"drone --cluster a --runtime fake --max-cpus many":          "--max-cpus: ",
		"drone --cluster a --runtime fake --max-backends 8001":      "--max-backends: must be",
		"drone --cluster a --runtime fake --drain-timeout 1m":       "--drain-timeout",
		"drone --cluster a --runtime podman":                        `--runtime must be one of`,
		"drone --cluster a --ip localhost":                          "--ip: must be an IP address",
		"drone --cluster a --runtime docker --mount-base /nowhere":  "--runtime docker: mount base: ",
		"drone --cluster a --runtime docker --docker-host nonsense": "--runtime docker: docker host: ",
		"drone --cluster a --runtime fake --grace=-1s":              "--grace: must not be negative",
		"drone --cluster a --runtime fake --grace=25h":              "--grace: must be at most 24h0m0s",
		"drone --cluster a --runtime fake --max-backends=-1":        "--max-backends: must be 0",
		"proxy --listen x":                                          "--listen: ",
		"proxy --name wo-a":                                         `--name: must be "px-"`,
		"proxy --listen 127.0.0.1:0 --root-redirect x":              "--root-redirect: ",
		"proxy --ready-timeout 0s":                                  "--ready-timeout: must be more than 0",
		"proxy --drain-delay=-1s":                                   "--drain-delay: must not be negative",
		"proxy --metrics-addr x":                                    "--metrics-addr: ",
		"dev --nats-port x":                                         "--nats-port: ",
		"nothing":                                                   "unexpected argument nothing",
		"version --log-level loud":                                  "--log-level must be one of",
		"bench connect --nosuch":                                    "see jetway bench connect --help",
		"bench proxy --loads all":                                   "loads must be of memory, revoke, request, small,",
		"bench proxy --procs=-1":                                    "procs must be 0 to 1024",
	} {
		stdout, stderr, code := jetway(t, strings.Fields(args)...)
		if stdout != "" || !strings.HasPrefix(stderr, "jetway: ") || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, line) {
			t.Errorf("jetway %s: printed %q and %q, wanted %q", args, stdout, stderr, line)
		}
		if line == "" {
			continue
		}
		if code != ExitUsage {
			t.Errorf("jetway %s: exit code %d", args, code)
		}
	}
}

func TestHelpAndVersion(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{}, {"--help"}, {"connect", "--help"}, {"dev", "--help"}, {"help"}, {"help", "connect"}} {
		stdout, stderr, code := jetway(t, args...)
		if !strings.HasPrefix(stdout, "Usage: jetway ") || stderr != "" || code != ExitOK {
			t.Errorf("jetway %v: %q %q %d", args, stdout, stderr, code)
		}
	}
	for _, arg := range []string{"version", "--version"} {
		stdout, _, code := jetway(t, arg)
		if !strings.HasPrefix(stdout, "jetway ") || code != ExitOK {
			t.Errorf("%s: %q %d", arg, stdout, code)
		}
	}
}

// The demand: what a drone's operator gets who names no times.
func TestDefaultsOfADrone(t *testing.T) {
	t.Parallel()
	help, _, _ := jetway(t, "drone", "--help")
	for _, flag := range []string{"--grace=10s", "--startup-timeout=5m", `--ip="127.0.0.1"`, `--runtime="process"`} {
		if !strings.Contains(help, flag+" ") {
			t.Errorf("%s is not in the help", flag)
		}
	}
}

// Every flag but --help has an environment variable of its own kind.
func TestEveryFlagHasAnEnvironmentVariable(t *testing.T) {
	t.Parallel()
	parser, err := newParser(&grammar{}, Process{Stdout: newOutput(), Stderr: newOutput()})
	if err != nil {
		t.Fatal(err)
	}
	var visit func(node *kong.Node)
	visit = func(node *kong.Node) {
		for _, flag := range node.Flags {
			if flag.Name == "help" {
				continue
			}
			kinds := []string{"JETWAY_", "NATS_", "OTEL_"}
			if len(flag.Envs) != 1 || !slices.ContainsFunc(kinds, func(kind string) bool { return strings.HasPrefix(flag.Envs[0], kind) }) {
				t.Errorf("--%s of %s: environment %v", flag.Name, node.Name, flag.Envs)
			}
			if flag.Help == "" {
				t.Errorf("--%s of %s has no help", flag.Name, node.Name)
			}
		}
		for _, child := range node.Children {
			visit(child)
		}
	}
	visit(parser.Model.Node)
}

func TestServerFromEnvironmentAndContext(t *testing.T) {
	w := newFakeWorker(t, map[string]func([]byte) any{
		messages.SubjectDrones: func([]byte) any { return messages.DronesResponse{} },
	})
	home := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", home)
	dir := filepath.Join(home, "nats", "context")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "here.json"), []byte(`{"url":"`+w.url+`"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	_, stderr, code := jetway(t, "drones", "--context", "here")
	want(t, "stderr", stderr, "")
	wantCode(t, code, ExitOK)
	_, stderr, code = jetway(t, "drones", "--context", "gone")
	if !strings.Contains(stderr, "--context: ") || code != ExitUsage {
		t.Errorf("an unknown context: %q %d", stderr, code)
	}
	// Selected, as `nats context select` does it.
	if err := os.WriteFile(filepath.Join(home, "nats", "context.txt"), []byte("here"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, stderr, _ = jetway(t, "drones")
	want(t, "stderr", stderr, "")
	t.Setenv("NATS_URL", "nats://127.0.0.1:1")
	_, stderr, code = jetway(t, "drones")
	if !strings.Contains(stderr, "127.0.0.1:1") || code != ExitUnavailable {
		t.Errorf("NATS_URL against the selected context: %q %d", stderr, code)
	}
	t.Setenv("NATS_URL", w.url)
	t.Setenv("JETWAY_JSON", "true")
	stdout, _, _ := jetway(t, "drones")
	want(t, "stdout", stdout, "[]\n")
}

// A role that waits for its NATS server ends when it is told to.
func TestRoleStopsWhileItWaits(t *testing.T) {
	t.Parallel()
	drone := begin(t, "drone", "--nats", "nats://127.0.0.1:1", "--cluster", "a", "--runtime", "fake")
	drone.stderr.await(t, "trying again")
	drone.stop()
	drone.ends(ExitOK)
}

func TestText(t *testing.T) {
	t.Parallel()
	for d, text := range map[time.Duration]string{
		-time.Second: "0s", 59*time.Second + 900*time.Millisecond: "59s", 192 * time.Second: "3m12s",
		2*time.Hour + 5*time.Minute: "2h5m", 76 * time.Hour: "3d4h",
	} {
		want(t, "age", age(d), text)
	}
	for host, name := range map[string]string{
		"Ann's-Mac.local": "dr-ann-s-mac", "": "dr-local", "...": "dr-local", "é": "dr-local", "web_01": "dr-web-01",
		strings.Repeat("a", 41) + "-" + strings.Repeat("b", 40): "dr-" + strings.Repeat("a", 41),
	} {
		got := nameFrom("dr-", host)
		want(t, "name from "+host, got, name)
		if err := messages.CheckDroneName(got); err != nil {
			t.Error(err)
		}
	}
}
