package proxy_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/jetway-project/jetway/internal/bus"
	jetwayruntime "github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/process"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// Two people open the demo room in a real browser, each by a link of their own and with a
// profile of their own, over the whole of Jetway: they see each other and share a counter.
// When the link of one is revoked, his page says so and the other goes on (the issue's
// demand).
func TestE2EBrowsersShareARoom(t *testing.T) {
	t.Parallel()
	s := newStack(t, rooms(t))
	browser := startBrowser(t)
	key := &messages.Key{Name: "doc-1"}
	open := func(user string) (*page, messages.ConnectResponse) {
		resp := s.connect(messages.ConnectRequest{
			Key: key, User: user,
			SpawnConfig: &messages.SpawnConfig{Executable: []byte(`{"command":["room"]}`)},
		})
		return openPage(browser, t, user, resp.URL), resp // held until the room is ready
	}
	ada, room := open("ada")
	bob, same := open("bob")
	if room.BackendID != same.BackendID || room.Token == same.Token {
		t.Fatalf("ada was led to %+v, bob to %+v", room, same)
	}

	for _, p := range []*page{ada, bob} {
		p.sees(`shown.people() === "ada ✓,bob ✓"`)
		p.sees(`document.title === "doc-1"`)
		p.sees(`document.getElementById("about").textContent.includes("` + room.BackendID + `")`)
	}
	ada.click("#inc")
	ada.sees(`shown.count() === "1"`)
	bob.sees(`shown.count() === "1"`)
	bob.click("#inc")
	bob.click("#inc")
	ada.sees(`shown.count() === "3"`)
	bob.sees(`shown.count() === "3"`)

	user := "bob"
	ctx := testkit.Context(t)
	_, err := bus.Request[messages.RevokeResponse](ctx, s.nc, messages.SubjectRevoke, messages.RevokeRequest{BackendID: room.BackendID, User: &user})
	must(t, err)
	bob.sees(`shown.state() === "This room has ended. Ask for a new link."`)
	ada.sees(`shown.people() === "ada ✓"`)
	ada.click("#inc")
	ada.sees(`shown.count() === "4"`)

	// Who comes again finds the room as it is.
	again, _ := open("bob")
	again.sees(`shown.people() === "ada ✓,bob ✓"`)
	again.sees(`shown.count() === "4"`)
	again.leave()
	ada.sees(`shown.people() === "ada ✓"`)
}

// rooms is the runtime that runs the demo backend.
func rooms(t *testing.T) jetwayruntime.Runtime {
	t.Helper()
	root := t.TempDir()
	must(t, testkit.Build(t.Context(), root, "github.com/jetway-project/jetway/cmd/room"))
	rt, err := process.New(process.Config{Root: root})
	must(t, err)
	return rt
}

// browsers are where systems keep Chromium, as in the Makefile.
var browsers = []string{
	"chromium", "chromium-browser", "google-chrome", "google-chrome-stable",
	"/Applications/Google Chrome.app/Contents/MacOS/Google Chrome", "/Applications/Chromium.app/Contents/MacOS/Chromium",
}

// startBrowser runs a browser until the test ends.
func startBrowser(t *testing.T) context.Context {
	t.Helper()
	var program string
	for _, name := range browsers {
		if path, err := exec.LookPath(name); err == nil {
			program = path
			break
		}
	}
	if program == "" {
		testkit.LeaveOut(t, "a test of the proxy takes Chromium, and none is installed", "make browser installs it")
	}
	// As root it refuses to run with its sandbox, and it has none where the kernel gives
	// it no user namespaces, as in a chroot.
	if os.Geteuid() != 0 {
		browser, err := tryBrowser(t, program, true)
		if err == nil {
			return browser
		}
		t.Logf("without its sandbox, for with it %s does not start: %v", program, err)
	}
	browser, err := tryBrowser(t, program, false)
	if err != nil {
		t.Fatalf("start %s: %v", program, err)
	}
	return browser
}

func tryBrowser(t *testing.T, program string, sandbox bool) (context.Context, error) {
	t.Helper()
	profile, err := os.MkdirTemp("", "jetway-browser-")
	must(t, err)
	allocator, cancel := chromedp.NewExecAllocator(context.Background(),
		chromedp.ExecPath(program), chromedp.UserDataDir(filepath.Join(profile, "data")),
		chromedp.Headless, chromedp.DisableGPU, chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck,
		chromedp.Flag("no-sandbox", !sandbox),
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("ignore-certificate-errors", true), // the tests' own
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-extensions", true),
		chromedp.Flag("disable-dev-shm-usage", true), // in containers it is small
		chromedp.Flag("no-proxy-server", true),       // whatever the environment says
		chromedp.Flag("password-store", "basic"),
		chromedp.Flag("use-mock-keychain", true),
		chromedp.WSURLReadTimeout(testkit.Patience),
	)
	browser, end := chromedp.NewContext(allocator)
	if err := chromedp.Do(browser); err != nil {
		end()
		cancel()
		_ = os.RemoveAll(profile)
		return nil, err
	}
	t.Cleanup(func() {
		late, hurry := context.WithTimeout(browser, testkit.Patience)
		defer hurry()
		if err := chromedp.Cancel(late); err != nil {
			t.Errorf("end the browser: %v", err)
		}
		end()
		cancel()
		_ = os.RemoveAll(profile) // what the browser's own children still write stays
	})
	return browser, nil
}

// page is one person's tab.
type page struct {
	t     *testing.T
	who   string
	tab   context.Context
	leave func()
}

// words are what the tests ask of the page. Its own names are left alone.
const words = `
	window.shown = {
		count: () => document.getElementById("count").textContent,
		state: () => document.getElementById("state").textContent,
		people: () => [...document.querySelectorAll("#people li")].map(li =>
			li.querySelector("span").textContent + " " + li.querySelector("small").textContent.replace("you ", "")).sort().join(),
	};
`

// openPage opens a page in a profile of its own and waits until it is connected.
func openPage(browser context.Context, t *testing.T, who, url string) *page {
	t.Helper()
	tab, leave := chromedp.NewContext(browser, chromedp.WithNewBrowserContext(), chromedp.WithListener(func(event any) {
		if thrown, ok := event.(*runtime.EventExceptionThrown); ok {
			t.Errorf("the page of %s fails: %v", who, thrown.ExceptionDetails)
		}
	}))
	t.Cleanup(leave)
	must(t, chromedp.Do(tab)) // opens the tab, which lives as long as this context
	p := &page{t: t, who: who, tab: tab, leave: leave}
	p.does("open "+url, chromedp.Navigate(url), chromedp.Evaluate[chromedp.Void](words))
	p.sees(`shown.state() === "Connected"`)
	return p
}

func (p *page) does(what string, actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.tab, testkit.Patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		p.t.Fatalf("%s cannot %s: %v; the page shows %s", p.who, what, err, p.shows())
	}
}

func (p *page) click(selector string) {
	p.t.Helper()
	p.does("click "+selector, chromedp.Click(chromedp.CSS(selector)))
}

// sees waits until an expression holds in the page.
func (p *page) sees(expression string) {
	p.t.Helper()
	p.does("see "+expression, chromedp.Poll[chromedp.Void](expression, chromedp.WithPollingInterval(20*time.Millisecond), chromedp.WithPollingTimeout(0)))
}

func (p *page) shows() string {
	ctx, cancel := context.WithTimeout(p.tab, testkit.Patience)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string]("document.body.innerText"))
	if err != nil {
		return fmt.Sprint("nothing: ", err)
	}
	return fmt.Sprintf("%q", text)
}
