package proxy_test

import (
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/browsertest"
	"github.com/jetway-project/jetway/messages"
	"github.com/jetway-project/jetway/messages/client"
)

// The demand: a session that has ended is visited by its URL of before, in path and in origin mode. While no drone takes it the page of a real browser
// says so, and shows the session by itself once one does; otherwise the visitor sees nothing of it.
func TestE2EBrowserVisitsADormantSession(t *testing.T) {
	testkit.Long(t)
	t.Parallel()
	s := newStackAt(t, rooms(t), "rooms.localhost")
	ctx := testkit.Context(t)
	ask := func(subject string, payload any) {
		t.Helper()
		_, err := client.RequestRaw(ctx, s.nc, subject, messages.Encode(payload))
		must(t, err)
	}
	ended := func(key *messages.Key) {
		t.Helper()
		ask(messages.SubjectTerminate, messages.TerminateRequest{Key: key})
		testkit.Eventually(t, "the session has ended", func() bool {
			info, err := client.Request[messages.BackendInfo](ctx, s.nc, messages.SubjectStatus, messages.StatusRequest{Key: key})
			must(t, err)
			return info.Status == messages.Terminated
		})
	}
	for name, origin := range map[string]bool{"path": false, "origin": true} {
		key, hour := &messages.Key{Name: name}, int64(3600)
		first := s.connect(messages.ConnectRequest{Key: key, SpawnConfig: &messages.SpawnConfig{
			Executable: []byte(`{"command":["room"]}`), UseStaticToken: true, ResumeSeconds: &hour, Origin: &origin,
		}})
		openPage(t, "ada", first.URL).leave()
		ended(key)
		again := openPage(t, "ada", first.URL)
		again.sees(`shown.count() === "0"`)
		again.leave()
		if origin {
			continue // the page is the same
		}
		ended(key)
		ask(messages.SubjectDrain, messages.DrainRequest{Drone: "dr-test"})
		bob := &page{t: t, who: "bob", tab: browsertest.New(t)}
		bob.does("open "+first.URL, browsertest.Open(first.URL))
		bob.sees(`document.body.innerText.includes("take no new sessions") && +document.getElementById("in").textContent < 10`)
		ask(messages.SubjectUndrain, messages.DrainRequest{Drone: "dr-test"})
		testkit.Eventually(t, "the page shows the session by itself", func() bool {
			title, err := chromedp.Run(bob.tab, chromedp.Evaluate[string]("document.title"))
			return err == nil && title == name // not while it is loaded anew
		})
		bob.does("look", chromedp.Evaluate[chromedp.Void](words))
		bob.sees(`shown.state() === "Connected"`)
	}
}
