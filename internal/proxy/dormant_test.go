package proxy

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// The demand: who visits a key that cannot be started now is told why, in plain words, and in how long to try again: a browser's page does it by itself, also
// without scripts, a program reads Retry-After. What is sent is not sent twice.
func TestAVisitorOfADormantKeyIsToldWhatIsWrong(t *testing.T) {
	w := newWorld(t)
	tok := messages.StaticTokenPrefix + token("a")
	for name, c := range map[string]struct {
		refusal messages.Error
		says    string
		seconds string
	}{
		"rests":    {messages.Error{Kind: messages.BackingOff, Message: "resting", RetryAfterMS: 4200, LastWords: "exit code 1: <no config>"}, "rests before it is started again", "5"},
		"full":     {messages.Error{Kind: messages.NoDroneAvailable, Message: "full", Reason: string(messages.NoDroneFree)}, "are full", "10"},
		"drains":   {messages.Error{Kind: messages.NoDroneAvailable, Message: "drains", Reason: string(messages.NoDroneDraining)}, "take no new sessions", "10"},
		"gone":     {messages.Error{Kind: messages.NoDroneAvailable, Message: "gone", Reason: string(messages.NoDroneOfPool)}, "no machines (any more)", "10"},
		"silent":   {messages.Error{Kind: messages.NoDroneAvailable, Message: "silent"}, "no machine", "10"},
		"leaves":   {messages.Error{Kind: messages.KeyHeldUnhealthy, Message: "leaving"}, "starts again", "1"},
		"restored": {messages.Error{Kind: messages.Unavailable, Message: "restored"}, "Cannot find out", "1"},
	} {
		w.worker.refuses(tok, c.refusal)
		html := w.get("/"+tok+"/", "Accept", "text/html")
		equal(t, name, html.status, http.StatusServiceUnavailable)
		equal(t, name+": Retry-After", html.header.Get("Retry-After"), c.seconds)
		if !strings.Contains(html.body, c.says) || !strings.Contains(html.body, `<meta http-equiv="refresh" content="`+c.seconds+`">`) {
			t.Errorf("%s: the page is %s", name, html.body)
		}
		if name == "rests" && !strings.Contains(html.body, "exit code 1: &lt;no config&gt;") {
			t.Errorf("the page does not show the last words, as words: %s", html.body)
		}
		if policy := html.header.Get("Content-Security-Policy"); !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "script-src 'unsafe-inline'") {
			t.Errorf("%s: the policy is %q", name, policy)
		}
		var pg page
		must(t, json.Unmarshal([]byte(w.get("/"+tok+"/", "Accept", "application/json").body), &pg))
		if pg.Status != 503 || pg.RetryAfterMS < 1 || name == "rests" && (pg.RetryAfterMS != 4200 || pg.Detail != c.refusal.LastWords) {
			t.Errorf("%s: for programs: %+v", name, pg)
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+cluster+"/"+tok+"/", nil)
		must(t, err)
		if posted := w.do(req, "Accept", "text/html"); strings.Contains(posted.body, "http-equiv") {
			t.Errorf("%s: what was sent is sent again: %s", name, posted.body)
		}
	}
}

// The demand: of a key that outlives its backends nobody is told that its session is over for good: not while the backend leaves, nor when the answer crosses its end.
func TestNobodyIsToldThatASessionIsGoneThatComesBack(t *testing.T) {
	w := newWorld(t)
	tok := messages.StaticTokenPrefix + token("a")
	leaving := ready("be-a", "")
	leaving.Status, leaving.Resumable = messages.Terminating, true
	w.worker.route(tok, leaving)
	got := w.get("/" + tok + "/")
	equal(t, "while it leaves", got.status, http.StatusServiceUnavailable)
	testkit.Receive(t, w.worker.asked, "the question while it leaves")

	next := ready("be-b", backend(t, echo))
	next.Resumable = true
	before := ready("be-a", backend(t, echo))
	before.Resumable = true
	w.worker.route(tok, before)
	release := w.worker.block()
	answered := make(chan answer, 1)
	go func() { answered <- w.get("/" + tok + "/") }()
	testkit.Receive(t, w.worker.asked, "the question")
	w.worker.publish("be-a", messages.Terminated)
	w.worker.route(tok, next)
	testkit.Eventually(t, "the end is heard", func() bool { return w.proxy.news.mark() > 0 })
	release()
	equal(t, "when the answer crosses the end", (<-answered).status, http.StatusOK)
}

// The demand: a question about what is open starts nothing, and that it leads nowhere says nothing to who comes.
func TestAQuestionAboutWhatIsOpenStartsNothing(t *testing.T) {
	w := newWorld(t)
	tok := messages.StaticTokenPrefix + token("a")
	if _, err := w.proxy.await(t.Context(), tok, true, true); messages.KindOf(err) != messages.NotFound {
		t.Fatal(err)
	}
	w.leads(tok, "be-a", echo)
	equal(t, "who comes then", w.get("/"+tok+"/").status, http.StatusOK)
}
