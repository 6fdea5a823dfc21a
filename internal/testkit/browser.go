package testkit

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// browsers are the names and places of Chromium.
var browsers = []string{
	"chromium", "chromium-browser", "google-chrome", "google-chrome-stable",
	"/Applications/Google Chrome.app/Contents/MacOS/Google Chrome", "/Applications/Chromium.app/Contents/MacOS/Chromium",
}

// Browser starts a headless Chromium that ends with the test.
func Browser(t *testing.T) context.Context {
	t.Helper()
	var program string
	for _, name := range browsers {
		if path, err := exec.LookPath(name); err == nil {
			program = path
			break
		}
	}
	if program == "" {
		LeaveOut(t, "a test takes Chromium, and none is installed", "make browser installs it")
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
	if err != nil {
		t.Fatal(err)
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
		chromedp.WSURLReadTimeout(Patience),
	)
	browser, end := chromedp.NewContext(allocator)
	if err := chromedp.Do(browser); err != nil {
		end()
		cancel()
		_ = os.RemoveAll(profile)
		return nil, err
	}
	t.Cleanup(func() {
		late, hurry := context.WithTimeout(browser, Patience)
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
