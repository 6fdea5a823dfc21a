package metrics_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/jetway-project/jetway/internal/metrics"
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
	for _, m := range regexp.MustCompile("(?m)^\\| `(jetway_(?:worker|proxy|gateway)_[a-z_]+)` \\|").FindAllStringSubmatch(read(t, "README.md"), -1) {
		documented[m[1]] = true
	}
	if got, want := slices.Sorted(maps.Keys(documented)), slices.Sorted(maps.Keys(registered())); !slices.Equal(got, want) {
		t.Errorf("deploy/README.md documents\n%s\nthe roles have\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestDashboardAndAlertsUseMetricsThatExist(t *testing.T) {
	t.Parallel()
	known := registered()
	dashboard, rules := read(t, "grafana/jetway-workers.json"), read(t, "prometheus/jetway.rules.yml")
	if !json.Valid([]byte(dashboard)) {
		t.Error("the dashboard is not JSON")
	}
	for file, text := range map[string]string{"dashboard": dashboard, "rules": rules} {
		used := regexp.MustCompile(`jetway_worker_[a-z_]+`).FindAllString(text, -1)
		if len(used) == 0 {
			t.Errorf("the %s uses no metric", file)
		}
		for _, name := range used {
			base := name
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				base = strings.TrimSuffix(base, suffix)
			}
			if !known[name] && !known[base] {
				t.Errorf("the %s uses %s, which is none", file, name)
			}
		}
	}
}
