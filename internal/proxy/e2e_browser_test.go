package proxy_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	jetwayruntime "github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/process"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/browsertest"
	"github.com/jetway-project/jetway/messages"
	"github.com/jetway-project/jetway/messages/client"
)

// Two people open the demo room in a real browser, each by a link of their own and with a
// profile of their own, over the whole of Jetway: they see each other and share a counter.
// When the link of one is revoked, his page says so and the other goes on (the issue's
// demand).
func TestE2EBrowsersShareARoom(t *testing.T) {
	t.Parallel()
	s := newStack(t, rooms(t))
	key := &messages.Key{Name: "doc-1"}
	open := func(user string) (*page, messages.ConnectResponse) {
		resp := s.connect(messages.ConnectRequest{
			Key: key, User: user,
			SpawnConfig: &messages.SpawnConfig{Executable: []byte(`{"command":["room"]}`)},
		})
		return openPage(t, user, resp.URL), resp // held until the room is ready
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
	_, err := client.Request[messages.RevokeResponse](ctx, s.nc, messages.SubjectRevoke, messages.RevokeRequest{BackendID: room.BackendID, User: &user})
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
func openPage(t *testing.T, who, url string) *page {
	t.Helper()
	tab := browsertest.New(t, chromedp.WithListener(func(event any) {
		if thrown, ok := event.(*runtime.EventExceptionThrown); ok {
			t.Errorf("the page of %s fails: %v", who, thrown.ExceptionDetails)
		}
	}))
	p := &page{t: t, who: who, tab: tab, leave: func() { must(t, chromedp.Cancel(tab)) }}
	p.does("open "+url, browsertest.Open(url), chromedp.Evaluate[chromedp.Void](words))
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
