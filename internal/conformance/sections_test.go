package conformance_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/conformance"
)

// The demand: what a check wants, a section of PROTOCOL.md says; and what it builds on comes before it.
func TestChecksNameSectionsThatThereAre(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../messages/PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	var anchors []string
	for _, m := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(string(page), -1) {
		anchors = append(anchors, strings.ReplaceAll(regexp.MustCompile(`[^a-z0-9 -]`).ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-"))
	}
	for _, table := range [][]conformance.Check{conformance.DroneChecks(), conformance.ProxyChecks()} {
		var before []string
		for _, check := range table {
			if !slices.Contains(anchors, check.Section) {
				t.Errorf("%s: PROTOCOL.md has no section %q", check.ID, check.Section)
			}
			if slices.Contains(before, check.ID) {
				t.Errorf("two checks are named %s", check.ID)
			}
			for _, need := range check.Needs {
				if !slices.Contains(before, need) {
					t.Errorf("%s builds on %s, which does not come before it", check.ID, need)
				}
			}
			before = append(before, check.ID)
		}
	}
}
