// Package browsertest gives tests a headless Chromium.
package browsertest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/jetway-project/jetway/internal/testkit"
)

// browsers are the names and places of Chromium.
var browsers = []string{
	"chromium", "chromium-browser", "google-chrome", "google-chrome-stable",
	"/Applications/Google Chrome.app/Contents/MacOS/Google Chrome", "/Applications/Chromium.app/Contents/MacOS/Chromium",
}

// browser is the one Chromium of a test binary, started by the first test that asks: it is a dozen processes, which
// cost more than most tests do.
var browser struct {
	mu   sync.Mutex
	ctx  context.Context
	stop func() error
}

// New opens a tab of a headless Chromium, in a profile of its own, until the test ends. Further tabs of the profile
// are those of [chromedp.NewContext] on it.
func New(t *testing.T, options ...chromedp.ContextOption) context.Context {
	t.Helper()
	tab, end := chromedp.NewContext(sharedBrowser(t), append(options, chromedp.WithNewBrowserContext())...)
	t.Cleanup(end)
	if err := chromedp.Do(tab); err != nil { // opens it: it lives as long as this context
		t.Fatal("open a tab of the browser: ", err)
	}
	return tab
}

func sharedBrowser(t *testing.T) context.Context {
	t.Helper()
	browser.mu.Lock()
	defer browser.mu.Unlock()
	if browser.ctx != nil {
		return browser.ctx
	}
	var program string
	for _, name := range browsers {
		if path, err := exec.LookPath(name); err == nil {
			program = path
			break
		}
	}
	if program == "" {
		testkit.LeaveOut(t, "a test takes Chromium, and none is installed", "make browser installs it")
	}
	// As root it refuses to run with its sandbox, and it has none where the kernel gives
	// it no user namespaces, as in a chroot.
	var err error
	if os.Geteuid() != 0 {
		if browser.ctx, browser.stop, err = startBrowser(program, true); err == nil {
			testkit.AtEnd(browser.stop)
			return browser.ctx
		}
		t.Logf("without its sandbox, for with it %s does not start: %v", program, err)
	}
	if browser.ctx, browser.stop, err = startBrowser(program, false); err != nil {
		t.Fatalf("start %s: %v", program, err)
	}
	testkit.AtEnd(browser.stop)
	return browser.ctx
}

func startBrowser(program string, sandbox bool) (context.Context, func() error, error) {
	profile, err := os.MkdirTemp("", "jetway-browser-")
	if err != nil {
		return nil, nil, err
	}
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
	ctx, end := chromedp.NewContext(allocator)
	if err := chromedp.Do(ctx); err != nil {
		end()
		cancel()
		_ = os.RemoveAll(profile)
		return nil, nil, err
	}
	return ctx, func() error {
		late, hurry := context.WithTimeout(ctx, testkit.Patience)
		defer hurry()
		err := chromedp.Cancel(late)
		end()
		cancel()
		_ = os.RemoveAll(profile) // what the browser's own children still write stays
		if err != nil {
			return fmt.Errorf("end the browser: %w", err)
		}
		return nil
	}, nil
}

// Open is chromedp.Navigate. A browser gives up a page that it is loading when a network interface of the machine comes or goes, as containers'
// do: then it is opened again.
func Open(url string) chromedp.Action[chromedp.Void] {
	return func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		for {
			done, err := chromedp.Navigate(url)(ctx, t)
			if err == nil || !strings.Contains(err.Error(), "ERR_NETWORK_CHANGED") {
				return done, err
			}
		}
	}
}
