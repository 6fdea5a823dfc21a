package gateway_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/jetway-project/jetway/internal/gateway"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// violations lists what axe finds, one a line, with the elements that it is about.
const violations = `axe.run(document, {runOnly: ["wcag2a", "wcag2aa", "wcag21aa", "best-practice"]}).then((r) => {
	document.body.dataset.axe = r.violations.map((v) => v.id + ": " + v.nodes.map((n) => n.target.join(" ")).join(", ")).join("\n") || "none";
})`

// Who hears the page instead of seeing it, or sees little, can use it: axe finds nothing in the list, in the story of one backend, in
// what asks whether to go on, in the dark, and where one signs in.
func TestThePageIsForScreenReaders(t *testing.T) {
	testkit.Long(t)
	t.Parallel()
	if _, err := exec.LookPath("npm"); err != nil {
		testkit.LeaveOut(t, "a test of the page takes npm, and it is not installed", "install Node.js")
	}
	dir := t.TempDir()
	npm := exec.CommandContext(t.Context(), "npm", "install", "--no-audit", "--no-fund", "--loglevel=error", "--prefix", dir, "axe-core@4.10.3")
	if out, err := npm.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	axe, err := os.ReadFile(filepath.Join(dir, "node_modules", "axe-core", "axe.min.js"))
	must(t, err)
	file, _ := tokens(t, gateway.Token{Name: "ops", Scopes: all})
	f := start(t)
	locked := start(t, func(c *gateway.Config) { c.TokensFile = file })
	b := f.connect(`{"key":{"name":"heard"},"user":"ann",` + spawn + `}`)
	f.await(b.BackendID, messages.Ready)
	p := openTab(t, f.url)
	look := func(p *tab, where string) {
		t.Helper()
		p.eval(string(axe) + `; delete document.body.dataset.axe; ` + violations)
		p.sees(`document.body.dataset.axe !== undefined`)
		found, err := chromedp.Run(p.ctx, chromedp.Evaluate[string](`document.body.dataset.axe`))
		must(t, err)
		if found != "none" {
			t.Errorf("%s: %s", where, found)
		}
	}
	p.sees(`document.getElementById("row-` + b.BackendID + `") !== null`)
	look(p, "the list")
	p.click("#row-" + b.BackendID)
	p.sees(`document.getElementById("detail").open && document.getElementById("story").textContent.includes("ready")`)
	look(p, "the story of one")
	p.click("#acts button")
	p.sees(`document.getElementById("confirm").open`)
	look(p, "the question")
	p.do("be in the dark", inTheDark())
	p.sees(`getComputedStyle(document.body).backgroundColor === "rgb(20, 23, 26)"`)
	look(p, "the question in the dark")
	in := openTab(t, locked.url)
	look(in, "signing in")
	in.do("be in the dark", inTheDark())
	in.eval(`document.getElementById("token").value = "jwt0_unknown"; document.querySelector(".login").requestSubmit()`)
	testkit.Eventually(t, "the next page says so", func() bool {
		says, err := chromedp.Run(in.ctx, chromedp.Evaluate[bool](`document.querySelector(".login [role=alert]") !== null`))
		return err == nil && says
	})
	look(in, "signing in with what is not known, in the dark")
	f.ask("POST", "/v1/terminate", `{"backend_id":"`+b.BackendID+`","hard":true}`)
}
