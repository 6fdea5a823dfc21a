package cli

import (
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/testkit"
)

var (
	sampleLine = regexp.MustCompile(`(?m)^([a-z_]+)(?:\{(.*)\})? \S+$`)
	labelName  = regexp.MustCompile(`([a-z_]+)(?:=~|!~|!=|=)\\?"`)
	selector   = regexp.MustCompile(`(jetway_(?:worker|proxy|drone)_[a-z_]+)(?:\{([^}]*)\})?`)
)

// The demand: what the dashboards' panels and the alerts ask for is there, with the labels that they go by, on the /metrics of a running
// worker, drone and proxy.
func TestPanelsAndAlertsAskForWhatARunningStackShows(t *testing.T) {
	t.Parallel()
	stack := sharedStack(t)
	urls := make(map[string]string)
	start := func(role string, args ...string) {
		t.Helper()
		c := begin(t, append([]string{role, "--nats", stack.NATSURL, "--metrics-addr", "127.0.0.1:0", "--log-format", "json"}, args...)...)
		urls[role] = c.stderr.await(t, `"serving metrics and health".*"url":"(http://[^"]+)"`)[1]
	}
	name := "shown" + strings.ToLower(strings.ReplaceAll(t.Name(), "/", ""))[:8]
	start("drone", "--name", "dr-"+name, "--cluster", stack.Cluster, "--pool", name, "--runtime", "fake", "--max-memory", "1GiB", "--max-cpus", "2", "--drain-on-exit", "--drain-timeout", "1ms")
	start("proxy", "--name", "px-"+name, "--listen", "127.0.0.1:0", "--drain-delay", "0s")
	// It reads the fleet when it starts: with the drone there.
	testkit.Eventually(t, "the drone is ready", func() bool { status, _ := get(t, urls["drone"]+"/readyz"); return status == http.StatusOK })
	start("worker", "--name", "wo-"+name, "--postgres", stack.PostgresDSN, "--default-cluster", stack.Cluster)
	testkit.Eventually(t, "the worker is ready", func() bool { status, _ := get(t, urls["worker"]+"/readyz"); return status == http.StatusOK })

	labels := make(map[string]map[string]bool)
	scrape := func() {
		for _, url := range urls {
			_, text := get(t, url+"/metrics")
			for _, m := range sampleLine.FindAllStringSubmatch(text, -1) {
				if labels[m[1]] == nil {
					labels[m[1]] = make(map[string]bool)
				}
				for _, l := range labelName.FindAllStringSubmatch(m[2], -1) {
					labels[m[1]][l[1]] = true
				}
			}
		}
	}
	testkit.Eventually(t, "the worker has read the fleet", func() bool { scrape(); return labels["jetway_worker_pool_capacity"] != nil })

	files, err := filepath.Glob(filepath.Join("..", "..", "deploy", "grafana", "*.json"))
	if err != nil || len(files) != 3 {
		t.Fatalf("%d dashboards, %v", len(files), err)
	}
	// Without https there are no certificates.
	absent := []string{"jetway_proxy_certificate_until_timestamp_seconds", "jetway_proxy_certificate_orders_total"}
	for _, file := range append(files, filepath.Join("..", "..", "deploy", "prometheus", "jetway.rules.yml")) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range selector.FindAllStringSubmatch(string(text), -1) {
			if slices.Contains(absent, m[1]) {
				continue
			}
			has, is := labels[m[1]]
			if !is {
				t.Errorf("%s asks for %s, which is not there", filepath.Base(file), m[1])
				continue
			}
			for _, l := range labelName.FindAllStringSubmatch(m[2], -1) {
				if l[1] != "job" && l[1] != "instance" && !has[l[1]] {
					t.Errorf("%s asks for %s by %s; it has %v", filepath.Base(file), m[1], l[1], slices.Sorted(maps.Keys(has)))
				}
			}
		}
	}
}
