package deployed

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The demand: each role that has a unit is in the package, the chart and compose, too. Found with the gateway: its
// unit had the path of who builds by hand, and the package no file that the unit reads.
func TestEveryRoleIsInThePackageTheChartAndCompose(t *testing.T) {
	t.Parallel()
	text := func(path ...string) string {
		t.Helper()
		said, err := os.ReadFile(filepath.Join(append([]string{"../../deploy"}, path...)...))
		if err != nil {
			t.Fatal(err)
		}
		return string(said)
	}
	units, err := filepath.Glob("../../deploy/systemd/*.service")
	if err != nil || len(units) < 6 {
		t.Fatal(units, err)
	}
	templates, err := filepath.Glob("../../deploy/helm/jetway/templates/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var chart strings.Builder
	for _, file := range templates {
		chart.WriteString(text("helm/jetway/templates", filepath.Base(file)))
	}
	told := regexp.MustCompile(`(?m)^EnvironmentFile=-?/etc/jetway/([a-z]+\.env)$`)
	for _, file := range units {
		unit := text("systemd", filepath.Base(file))
		role := strings.TrimRight(strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), "jetway-"), ".service"), "@")
		if !strings.Contains(unit, "\nExecStart=jetway "+role+"\n") { // /usr/bin or /usr/local/bin
			t.Errorf("%s does not run jetway %s, wherever that is", file, role)
		}
		for _, env := range told.FindAllStringSubmatch(unit, -1) {
			if text("debian/etc", env[1]) == "" || !strings.Contains(text("debian/nfpm.yaml"), "src: deploy/debian/etc/"+env[1]) {
				t.Errorf("the package lacks %s, which %s reads", env[1], file)
			}
		}
		if !strings.Contains(text("debian/prerm"), "jetway-"+role) || !strings.Contains(text("debian/postinst"), role) {
			t.Errorf("the package's scripts do not know %s", role)
		}
		if !strings.Contains(chart.String(), "args: ["+role+"]") && !regexp.MustCompile(`range \$role := list [a-z" ]*"`+role+`"`).MatchString(chart.String()) {
			t.Errorf("the chart lacks the role %s", role)
		}
		// A certificate for subdomains is nothing for one machine's first hour.
		if role != "dns" && !strings.Contains(text("compose/compose.yaml"), "command: ["+role+"]") {
			t.Errorf("compose lacks the role %s", role)
		}
	}
}
