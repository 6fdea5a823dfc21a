package gateway_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/browsertest"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/messages"
)

// tab is one page in the browser.
type tab struct {
	t   *testing.T
	ctx context.Context
}

func openTab(t *testing.T, url string) *tab {
	t.Helper()
	p := &tab{t, browsertest.New(t, chromedp.WithListener(func(event any) {
		if thrown, ok := event.(*runtime.EventExceptionThrown); ok {
			t.Errorf("the page's script fails: %v", thrown.ExceptionDetails)
		}
	}))}
	p.do("open "+url, browsertest.Open(url))
	return p
}

func (p *tab) do(what string, actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, testkit.Patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		late, cancel := context.WithTimeout(p.ctx, testkit.Patience)
		defer cancel()
		text, _ := chromedp.Run(late, chromedp.Evaluate[string]("document.body.innerText"))
		p.t.Fatalf("cannot %s: %v; the page shows %q", what, err, text)
	}
}

// sees waits until a condition of the page holds.
func (p *tab) sees(condition string) {
	p.t.Helper()
	p.do("see "+condition, chromedp.Poll[chromedp.Void](condition, chromedp.WithPollingInterval(20*time.Millisecond), chromedp.WithPollingTimeout(0)))
}

func (p *tab) eval(script string) {
	p.t.Helper()
	p.do("run "+script, chromedp.Evaluate[chromedp.Void](script+"; undefined"))
}

func (p *tab) click(selector string) {
	p.t.Helper()
	for {
		ctx, cancel := context.WithTimeout(p.ctx, testkit.Patience)
		err := chromedp.Do(ctx, chromedp.Click(chromedp.CSS(selector)))
		cancel()
		switch {
		case err == nil:
			return
		case !strings.Contains(err.Error(), "Could not find node"): // which the page has just drawn anew
			p.t.Fatalf("cannot click %s: %v", selector, err)
		}
	}
}

// clickSlowly has the page want to draw its rows anew between press and release.
func (p *tab) clickSlowly(selector string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, testkit.Patience)
	defer cancel()
	at, err := chromedp.Run(ctx, chromedp.Evaluate[[2]float64](`(() => {
		const r = document.querySelector(`+strconv.Quote(selector)+`).getBoundingClientRect();
		return [r.x + r.width / 2, r.y + r.height / 2];
	})()`))
	must(p.t, err)
	p.do("press", chromedp.MouseEvent(input.DispatchMouseEventTypeMousePressed, at[0], at[1], chromedp.ButtonLeft, chromedp.ClickCount(1)))
	p.eval(`window.ticks = 0; dirty = true; setInterval(() => ticks++, 200)`) // as often as the page looks whether to draw
	p.sees(`ticks >= 2`)
	p.do("release", chromedp.MouseEvent(input.DispatchMouseEventTypeMouseReleased, at[0], at[1], chromedp.ButtonLeft, chromedp.ClickCount(1)))
}

func (p *tab) key(keys string) {
	p.t.Helper()
	p.do("press a key", chromedp.KeyEvent(keys))
}

// shoot keeps a picture, where JETWAY_SCREENSHOTS says.
func (p *tab) shoot(name string) {
	p.t.Helper()
	dir := os.Getenv("JETWAY_SCREENSHOTS")
	if dir == "" {
		return
	}
	must(p.t, os.MkdirAll(dir, 0o755))
	ctx, cancel := context.WithTimeout(p.ctx, testkit.Patience)
	defer cancel()
	picture, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	must(p.t, err)
	must(p.t, os.WriteFile(filepath.Join(dir, name+".png"), picture, 0o644))
}

// inTheDark has the page believe that its reader likes it dark.
func inTheDark() chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}}})
		return err
	})
}

// The page shows what runs, live, by mouse and by keyboard; it ends a backend once that is confirmed; and it says when it is not
// live.
func TestThePageShowsWhatRunsAndIsLive(t *testing.T) {
	t.Parallel()
	link := testkit.NewFaultProxy(t, sharedAddr(t))
	f := startOn(t, "nats://"+link.Addr())
	first := f.connect(`{"key":{"name":"page-first","namespace":"acme"},"user":"ann","spawn_config":{"executable":{"fake":{"print":["hello from the room"]}}}}`)
	p := openTab(t, f.url)
	p.do("be wide", chromedp.EmulateViewport(1280, 800))
	p.sees(`document.getElementById("live").dataset.state === "live"`)
	p.sees(`document.getElementById("rows").textContent.includes("page-first")`)
	p.sees(`document.querySelector("[data-drone=dr-dev]") !== null`)
	second := f.connect(`{"key":{"name":"page-second"},` + spawn + `}`)
	p.sees(`(() => { const r = document.getElementById("row-` + second.BackendID + `"); return r !== null && r.textContent.includes("ready"); })()`)
	p.shoot("page-desktop")

	// Search, then the keyboard alone: to the row, open, end it, confirm.
	p.do("search", chromedp.SendKeys(chromedp.CSS("#find"), "page-first"), chromedp.Focus(chromedp.CSS("#backends")))
	p.sees(`document.querySelectorAll("#rows [role=row]").length === 1`)
	p.clickSlowly("#row-" + first.BackendID)
	p.sees(`document.getElementById("detail").open`)
	p.key(kb.Escape)
	p.sees(`!document.getElementById("detail").open`)
	p.key(kb.ArrowDown)
	p.key(kb.Enter)
	p.sees(`document.getElementById("detail").open && document.getElementById("lines").textContent.includes("hello from the room")`)
	p.sees(`document.getElementById("story").textContent.includes("ready")`)
	p.sees(`document.getElementById("facts").textContent.includes("ann")`)
	// What the gateway refuses is counted by its kind, and its connects by the second.
	want(t, f.ask("POST", "/v1/connect", `{}`), 409, "KeyUnheldNoSpawnConfig")
	p.sees(`document.getElementById("errors").textContent.includes("1 KeyUnheldNoSpawnConfig")`)
	p.sees(`document.getElementById("rate").textContent.includes("connects a second here")`)
	p.shoot("page-detail")
	p.click("#acts button")
	p.sees(`document.getElementById("confirm").open`)
	p.click(`#confirm button[value="no"]`)
	if info := into[messages.BackendInfo](t, f.ask("GET", "/v1/backends/"+first.BackendID, "")); info.Status.Leaving() {
		t.Error("it was ended, though that was not confirmed")
	}
	p.click("#acts button")
	p.sees(`document.getElementById("confirm").open`)
	p.click("#confirm-yes")
	p.sees(`document.getElementById("story").textContent.includes("terminated, external")`)
	p.key(kb.Escape)
	p.sees(`!document.getElementById("detail").open`)

	p.sleepsAndWakes(f, second.BackendID)
	// What is asked for while the bus is away is done when it is back.
	third := f.connect(`{"key":{"name":"page-third"},` + spawn + `}`)
	p.eval(`document.getElementById("find").value = "page-third"; document.getElementById("find").dispatchEvent(new Event("input"))`)
	p.sees(`document.querySelectorAll("#rows [role=row]").length === 1`)
	p.click("#row-" + third.BackendID)
	p.sees(`document.getElementById("detail").open && document.getElementById("story").textContent.includes("ready")`)
	link.Cut()
	p.sees(`document.getElementById("live").dataset.state === "dead"`)
	p.click("#acts button")
	p.sees(`document.getElementById("confirm").open`)
	p.click("#confirm-yes")
	p.sees(`document.getElementById("said").textContent.includes("Trying again")`)
	p.shoot("page-not-live")
	link.Heal()
	p.sees(`document.getElementById("live").dataset.state === "live"`)
	p.sees(`document.getElementById("story").textContent.includes("terminated, external")`)
	p.key(kb.Escape)

	// A phone in the dark: nothing is wider than the screen.
	p.do("be a phone in the dark", chromedp.EmulateViewport(390, 844, chromedp.EmulateMobile), inTheDark())
	p.eval(`document.getElementById("find").value = ""; document.getElementById("find").dispatchEvent(new Event("input"))`)
	p.sees(`document.getElementById("rows").textContent.includes("page-second")`)
	p.sees(`document.documentElement.scrollWidth <= innerWidth`)
	p.sees(`getComputedStyle(document.body).backgroundColor === "rgb(20, 23, 26)"`)
	p.shoot("page-phone-dark")
	p.eval(`document.getElementById("find").value = "page-second"; document.getElementById("find").dispatchEvent(new Event("input"))`)
	p.sees(`document.querySelectorAll("#rows [role=row]").length === 1`) // among others' it would move away from below the mouse
	p.click("#row-" + second.BackendID)
	p.sees(`document.getElementById("detail").open`)
	p.sees(`document.getElementById("lines").textContent !== ""`)
	p.shoot("page-phone-detail")
	p.key(kb.Escape)
	f.ask("POST", "/v1/terminate", `{"backend_id":"`+second.BackendID+`","hard":true}`)
}

func sharedAddr(t *testing.T) string {
	t.Helper()
	return sharedStack(t).NATSURL[len("nats://"):]
}

// Thousands of backends, 10,000 in full size, are in the page's list, and some dozens of them in the document, wherever it is scrolled to.
func TestI8ThePageHoldsTenThousandBackends(t *testing.T) {
	t.Parallel()
	n := testkit.Sized(t, 2000, 10000)
	nc := natstest.Conn(t, natstest.Server(t).URL())
	_, err := nc.Subscribe(messages.SubjectBackends, func(m *nats.Msg) {
		req, err := messages.Decode[messages.BackendsRequest](m.Data)
		if err != nil {
			return
		}
		from := 0
		_, _ = fmt.Sscanf(req.After, "b%d", &from)
		var page messages.BackendsResponse
		for i := from + 1; i <= min(n, from+req.Limit); i++ {
			page.Backends = append(page.Backends, messages.BackendInfo{
				BackendID: fmt.Sprintf("b%06d", i), Key: messages.Key{Name: fmt.Sprintf("doc-%d", i)}, Drone: "dr-a", Cluster: "c",
				CreatedAt: time.Unix(int64(i), 0), ChangedAt: time.Unix(int64(i), 0), State: messages.State{Status: messages.Ready}, Number: 50,
			})
		}
		if from+req.Limit < n {
			page.Next = fmt.Sprintf("b%06d", from+req.Limit)
		}
		_ = m.Respond(messages.Encode(page))
	})
	must(t, err)
	_, err = nc.Subscribe(messages.SubjectDrones, answerWith(messages.DronesResponse{Drones: []messages.DroneInfo{{Drone: "dr-a", Ready: true, Capacity: messages.Capacity{MaxBackends: 20000}, Load: messages.Load{Backends: n}}}}))
	must(t, err)
	must(t, nc.FlushWithContext(testkit.Context(t)))
	f := startWithoutWorkers(t, nc.ConnectedUrl())
	p := openTab(t, f.url)
	p.sees(fmt.Sprintf(`document.getElementById("count").textContent === "%d"`, n))
	inDocument := `document.querySelectorAll("#rows [role=row]").length < 100`
	p.sees(inDocument)
	p.do("go to the end", chromedp.Focus(chromedp.CSS("#backends")), chromedp.KeyEvent(kb.End))
	p.sees(`document.getElementById("row-b000001") !== null && ` + inDocument)
	p.eval(fmt.Sprintf(`document.getElementById("backends").scrollTop = %d * 36`, n/2))
	p.sees(fmt.Sprintf(`document.getElementById("row-b%06d") !== null && `, n/2) + inDocument)
	p.shoot("page-ten-thousand")
	p.do("search", chromedp.SendKeys(chromedp.CSS("#find"), fmt.Sprint("doc-", n*7/9)))
	p.sees(fmt.Sprintf(`document.getElementById("count").textContent === "1" && document.getElementById("row-b%06d") !== null`, n*7/9))
}

// Without its script the page shows what there was, and says that it is not live.
func TestThePageIsReadWithoutItsScript(t *testing.T) {
	t.Parallel()
	f := start(t)
	b := f.connect(`{"key":{"name":"page <script>"},` + spawn + `}`)
	got := f.ask("GET", "/", "")
	want(t, got, http.StatusOK, "page &lt;script&gt;|Nothing runs|class=\"row\"")
	want(t, got, http.StatusOK, "This page is not live without its script")
	f.ask("POST", "/v1/terminate", `{"backend_id":"`+b.BackendID+`","hard":true}`)
	for path, kind := range map[string]string{"/page.js": "text/javascript; charset=utf-8", "/page.css": "text/css; charset=utf-8"} {
		if got := f.ask("GET", path, ""); got.status != 200 || got.header.Get("Content-Type") != kind {
			t.Errorf("%s: %d %s", path, got.status, got.header.Get("Content-Type"))
		}
	}
}
