//go:build apps

package proxy_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"github.com/jetway-project/jetway/internal/proxy"
	"github.com/jetway-project/jetway/internal/runtime/process"
	"github.com/jetway-project/jetway/internal/testkit/browsertest"
	"github.com/jetway-project/jetway/messages"
)

var installed = flag.String("apps", "", "where deploy/apps/install.sh has put the applications")

// matrix says which of them work in which mode: its table, below this line, is what the test tells.
const (
	matrix   = "../../deploy/README.md"
	caption  = "| application | origin mode | path mode |"
	programs = "../../deploy/apps"
)

// Real applications work in origin mode, and in path mode as far as the table of deploy/README.md says, in a real browser
// and by the whole of Jetway (the demand).
func TestApps(t *testing.T) {
	if *installed == "" {
		t.Fatal("make apps runs this: it takes -apps")
	}
	root, err := filepath.Abs(programs)
	must(t, err)
	drones, err := process.New(process.Config{Root: root, Path: os.Getenv("PATH")})
	must(t, err)
	a := &apps{
		stack:   newStackAt(t, drones, "localhost", func(c *proxy.Config) { c.ReadyTimeout = appPatience }),
		browser: browsertest.New(t),
		said:    readMatrix(t),
	}
	for _, app := range allApps {
		want, ok := a.said[app.name]
		if !ok {
			t.Errorf("%s has no line in %s", app.name, matrix)
		}
		delete(a.said, app.name)
		for i, mode := range []string{"origin mode", "path mode"} {
			t.Run(app.name+"/"+mode, func(t *testing.T) {
				err := a.try(t, app, i == 0)
				t.Logf("%s, %s: %s", app.name, mode, outcome(err))
				switch said := want[i]; {
				case strings.HasPrefix(said, "works") && err != nil:
					t.Errorf("%s says that it works, but %v", matrix, err)
				case !strings.HasPrefix(said, "works") && err == nil:
					t.Errorf("%s says %q, but it works", matrix, said)
				}
			})
		}
	}
	for name := range a.said {
		t.Errorf("%s has a line in %s, but is not tried", name, matrix)
	}
}

func outcome(err error) string {
	if err == nil {
		return "works"
	}
	return "does not work: " + err.Error()
}

// readMatrix gives what the table says of each application: of origin mode, and of path mode.
func readMatrix(t *testing.T) map[string][2]string {
	t.Helper()
	text, err := os.ReadFile(matrix)
	must(t, err)
	_, table, ok := strings.Cut(string(text), caption)
	if !ok {
		t.Fatalf("%s has no table that begins with %s", matrix, caption)
	}
	said := make(map[string][2]string)
	for line := range strings.SplitSeq(strings.TrimPrefix(table, "\n"), "\n") {
		cells := strings.Split(line, " | ")
		if !strings.HasPrefix(line, "|") {
			break
		}
		if len(cells) == 3 {
			said[strings.TrimPrefix(cells[0], "| ")] = [2]string{cells[1], strings.TrimSuffix(cells[2], " |")}
		}
	}
	return said
}

const (
	// appPatience is how long an application may take: some compile first.
	appPatience = 5 * time.Minute
	// afterwards is how long one may still take that has asked for what is not below its path.
	afterwards = 15 * time.Second
)

type apps struct {
	*stack
	browser context.Context
	said    map[string][2]string
}

// session is one running application, in its mode.
type session struct {
	apps   *apps
	t      *testing.T
	app    app
	origin bool
	work   string
	stray  func(path string) // for the first request of its pages that leads to no session
	astray chan struct{}     // closed when there was one, and
	path   string            // where to
	tabs   []func()
}

// open starts the application for one more user and shows its page, or what is at a path below it.
func (s *session) open(path string) (*tab, error) {
	s.work = s.t.TempDir()
	env := map[string]string{"APPS": *installed, "WORK": s.work}
	executable, err := json.Marshal(map[string]any{"command": []string{"app", s.app.program}, "env": env})
	if err != nil {
		return nil, err
	}
	resp := s.apps.connect(messages.ConnectRequest{SpawnConfig: &messages.SpawnConfig{Executable: executable, Origin: &s.origin}})
	return s.show(strings.TrimSuffix(resp.URL, "/") + path)
}

// show opens a page in the profile that all share.
func (s *session) show(link string) (*tab, error) {
	ctx, leave := chromedp.NewContext(s.apps.browser, chromedp.WithListener(func(event any) {
		got, ok := event.(*network.EventResponseReceived)
		if !ok || got.Response.Status != 401 {
			return
		}
		at, err := url.Parse(got.Response.URL)
		if err == nil && strings.HasSuffix(at.Host, s.apps.cluster) && at.Path != "/favicon.ico" {
			s.stray(at.Path)
		}
	}))
	s.tabs = append(s.tabs, leave)
	if err := chromedp.Do(ctx); err != nil {
		return nil, err
	}
	p := &tab{session: s, ctx: ctx, link: link}
	return p, p.do(browsertest.Open(link))
}

// tab is one page.
type tab struct {
	*session
	ctx  context.Context
	link string
}

// do acts on the page.
func (p *tab) do(actions ...chromedp.Action[chromedp.Void]) error {
	return p.await(func(ctx context.Context) error { return chromedp.Do(ctx, actions...) })
}

// await does something until that is done, or is not to be expected any more.
func (p *tab) await(act func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(p.ctx, appPatience)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- act(ctx) }()
	select {
	case err := <-done:
		return err
	case <-p.astray:
		select {
		case err := <-done:
			return err
		case <-time.After(afterwards):
			cancel()
			return fmt.Errorf("its page asks for %s: %w", p.path, <-done)
		}
	}
}

func (p *tab) shown() error {
	ctx, cancel := context.WithTimeout(p.ctx, time.Second)
	defer cancel()
	text, _ := chromedp.Run(ctx, chromedp.Evaluate[string]("location.pathname + ' ' + document.body.innerText"))
	return fmt.Errorf("it shows %.500q", text)
}

// sees waits until an expression holds in the page.
func (p *tab) sees(expression string) error {
	err := p.await(func(ctx context.Context) error {
		every := time.NewTicker(100 * time.Millisecond)
		defer every.Stop()
		for {
			// An error is one of a page that is not whole yet, or gives way to another.
			if holds, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("!!("+expression+")")); err == nil && holds {
				return nil
			}
			select {
			case <-every.C:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	})
	if err != nil {
		return fmt.Errorf("%s: %w", expression, errors.Join(err, p.shown()))
	}
	return nil
}

func (p *tab) runs(script string) error { return p.do(chromedp.Evaluate[chromedp.Void](script)) }

// edit changes a file of the project that is served.
func (s *session) edit(file string) error {
	return os.WriteFile(filepath.Join(s.work, file), []byte(`export const text = "after";`+"\n"), 0o600)
}

// try says why an application does not work, or nil.
func (a *apps) try(t *testing.T, app app, origin bool) error {
	t.Helper()
	s := &session{apps: a, t: t, app: app, origin: origin, astray: make(chan struct{})}
	var once sync.Once
	s.stray = func(path string) { once.Do(func() { s.path = path; close(s.astray) }) }
	defer func() {
		for _, leave := range s.tabs {
			leave()
		}
	}()
	return app.works(s)
}

// steps does one after the other.
func steps(all ...func() error) error {
	for _, step := range all {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}
