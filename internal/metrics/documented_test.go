package metrics_test

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/jetway-project/jetway/internal/metrics"
	"github.com/jetway-project/jetway/internal/testkit"
)

// names keeps the names of what is registered with it.
type names map[string]bool

var fqName = regexp.MustCompile(`fqName: "([^"]+)"`)

func (n names) Register(c prometheus.Collector) error {
	descs := make(chan *prometheus.Desc)
	go func() { defer close(descs); c.Describe(descs) }()
	for d := range descs {
		n[fqName.FindStringSubmatch(d.String())[1]] = true
	}
	return nil
}

func (n names) MustRegister(cs ...prometheus.Collector) {
	for _, c := range cs {
		_ = n.Register(c)
	}
}

func (names) Unregister(prometheus.Collector) bool { return false }

func registered() names {
	n := names{}
	metrics.NewWorker(n)
	metrics.NewProxy(n)
	metrics.NewDrone(n)
	metrics.NewGateway(n)
	return n
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "deploy", path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestEveryMetricIsDocumentedAndNoOther(t *testing.T) {
	t.Parallel()
	documented := names{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(jetway_(?:worker|proxy|drone|gateway)_[a-z_]+)` \\|").FindAllStringSubmatch(read(t, "README.md"), -1) {
		documented[m[1]] = true
	}
	if got, want := slices.Sorted(maps.Keys(documented)), slices.Sorted(maps.Keys(registered())); !slices.Equal(got, want) {
		t.Errorf("deploy/README.md documents\n%s\nthe roles have\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// shown are the files that use metrics.
func shown(t *testing.T) map[string]string {
	t.Helper()
	files := map[string]string{"prometheus/jetway.rules.yml": "", "prometheus/jetway.rules_test.yml": ""}
	for _, role := range []string{"worker", "drone", "proxie"} {
		files["grafana/jetway-"+role+"s.json"] = ""
	}
	for file := range files {
		files[file] = read(t, file)
	}
	return files
}

func TestDashboardsAndAlertsUseMetricsThatExist(t *testing.T) {
	t.Parallel()
	known := registered()
	for file, text := range shown(t) {
		if strings.HasSuffix(file, ".json") && !json.Valid([]byte(text)) {
			t.Errorf("%s is not JSON", file)
		}
		used := regexp.MustCompile(`jetway_(?:worker|proxy|drone)_[a-z_]+`).FindAllString(text, -1)
		if len(used) == 0 {
			t.Errorf("%s uses no metric", file)
		}
		for _, name := range used {
			base := name
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				base = strings.TrimSuffix(base, suffix)
			}
			if !known[name] && !known[base] {
				t.Errorf("%s uses %s, which is none", file, name)
			}
		}
	}
}

// The demand: each alert fires in a test, and is silent in another one. That they do, promtool sees: TestAlertsFire.
func TestEachAlertIsTested(t *testing.T) {
	t.Parallel()
	tests := read(t, "prometheus/jetway.rules_test.yml")
	alerts := regexp.MustCompile(`(?m)^ +- alert: (\w+)$`).FindAllStringSubmatch(read(t, "prometheus/jetway.rules.yml"), -1)
	if len(alerts) == 0 {
		t.Error("there are no alerts")
	}
	for _, alert := range alerts {
		for _, which := range []string{"fires", "is silent"} {
			if !strings.Contains(tests, "name: "+alert[1]+" "+which+"\n") {
				t.Errorf("no test sees that %s %s", alert[1], which)
			}
		}
	}
}

// The rules are valid, and each alert fires where it should and nowhere else, by Prometheus' own tool.
func TestAlertsFire(t *testing.T) {
	t.Parallel()
	testkit.Long(t)
	if _, err := exec.LookPath("promtool"); err != nil {
		testkit.LeaveOut(t, "the alerts of deploy/prometheus: no promtool", "install Debian's prometheus, which has it")
	}
	dir := filepath.Join("..", "..", "deploy", "prometheus")
	for _, args := range [][]string{{"check", "rules", "jetway.rules.yml"}, {"test", "rules", "jetway.rules_test.yml"}} {
		cmd := exec.CommandContext(testkit.Context(t), "promtool", args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}
