package worker_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/messages"
)

// The demand: a gateway that checks key.namespace before it passes a request on is not bypassed, and each contradiction
// in what a drone says is refused in words that say which. All in one stack.
func TestI7WhatReadersMayReadDifferentlyIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	startWorker(t, w, "wo-a", options{})
	p := startPeer(t, w, "dr-a")
	if r := w.refused(messages.SubjectConnect, `{"key":{"name":"a","namespace":"mine"},"key":{"name":"a","namespace":"theirs"},"spawn_config":{"executable":{}}}`); !strings.Contains(r, "key: is there twice") {
		t.Error(r)
	}
	data, refusal := w.ask(messages.SubjectConnect, `{"key":{"name":"a","namespace":"mine"},"Key":{"name":"a","namespace":"theirs"},"spawn_config":{"executable":{}}}`)
	if refusal != nil {
		t.Fatal(refusal)
	}
	first := as[messages.ConnectResponse](t, data)
	if info := w.status(first.BackendID); info.Key.Namespace != "mine" {
		t.Errorf("the key is %+v", info.Key)
	}
	if first.SpawnConfigIgnored {
		t.Error("the one that spawned is told that its spawn_config had no part in it")
	}
	p.report(first.BackendID, messages.Loading)

	// What began and is refused then ends, and says why.
	begun := w.connect(spawnKey("begun"))
	p.report(begun.BackendID, messages.Loading)
	if r := p.tryReport(messages.Report{BackendID: begun.BackendID, Refused: true, State: messages.State{Status: messages.Terminated}}); r != nil {
		t.Errorf("refused after loading: %v", r)
	}
	if info := w.status(begun.BackendID); info.Status != messages.Terminated || info.Reason != messages.ReasonInternalError || !strings.Contains(info.Message, "as loading") {
		t.Errorf("then it is %+v", info.State)
	}
	for subject, payload := range map[string]string{
		messages.RegisterSubject("dr-b"):  `{"session":"s","machine_id":"m","boot_id":"b","cluster":"c"}`,
		messages.HeartbeatSubject("dr-a"): `{"session":"s-dr-a","ready":true}`,
	} {
		if r := w.refused(subject, payload); !strings.Contains(r, "drone_time_ms: must be the milliseconds since the machine's start") {
			t.Errorf("%s: %s", subject, r)
		}
	}

	// Who joins is told that what he wanted to run does not run, and who sent none is not.
	second := w.connect(messages.ConnectRequest{Key: &messages.Key{Name: "a", Namespace: "mine"}, SpawnConfig: spawnKey("a").SpawnConfig})
	third := w.connect(messages.ConnectRequest{Key: &messages.Key{Name: "a", Namespace: "mine"}})
	if second.Spawned || !second.SpawnConfigIgnored || third.SpawnConfigIgnored {
		t.Errorf("joined: %+v, %+v", second, third)
	}

	// The demand: headers are ASCII, whatever the asker wrote, in our bytes; the body has the text as it is.
	reply := <-w.send(messages.SubjectConnect, []byte(`{"auth":{"ключ 日本":1,"ключ 日本":2}}`), nil)
	header := reply.Header.Get(messages.HeaderError)
	if strings.ContainsFunc(header, func(c rune) bool { return c < ' ' || c > '~' }) || !strings.Contains(header, `auth["\u043a\u043b\u044e\u0447 \u65e5\u672c"]`) {
		t.Errorf("the header is %q", header)
	}
	if body := as[messages.Error](t, reply.Data); !strings.Contains(body.Message, "ключ 日本") {
		t.Errorf("the body is %s", reply.Data)
	}
}

// The demand: what ended a backend, and the token that it had, stay readable after its key is another backend's.
func TestI2AnEndedBackendKeepsItsTokenAndItsEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	startWorker(t, w, "wo-a", options{})
	p := startPeer(t, w, "dr-a")
	first := w.connect(spawnKey("k"))
	token := w.status(first.BackendID).FencingToken
	code := 3
	end := messages.Report{BackendID: first.BackendID, State: messages.State{
		Status: messages.Terminated, Kind: messages.Hard, Reason: messages.ReasonStartFailed, Message: "it fell over", ExitCode: &code,
	}}
	if r := p.tryReport(end); r != nil {
		t.Fatal(r)
	}
	second := w.connect(spawnKey("k"))
	now, before := w.status(second.BackendID), w.status(first.BackendID)
	if token < 1 || before.FencingToken != token || now.FencingToken <= token {
		t.Errorf("the tokens are %d, then %d; the next one's is %d", token, before.FencingToken, now.FencingToken)
	}
	if before.Message != "it fell over" || before.Kind != messages.Hard || before.Reason != messages.ReasonStartFailed || before.ExitCode == nil || *before.ExitCode != 3 || before.LastStatus != messages.Scheduled {
		t.Errorf("its end is %+v", before.State)
	}
	for _, msg := range events(t, w, messages.BackendEventSubject(first.BackendID)) {
		if event := as[messages.StateEvent](t, msg.Data); event.FencingToken != token {
			t.Errorf("the event of %s has the token %d, not %d", event.Status, event.FencingToken, token)
		}
	}
}

// The demand: a valid traceparent, with its tracestate, reaches every event and action that a request causes; what is no
// valid one reaches none.
func TestTraceContextReachesAllThatARequestCauses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	startWorker(t, w, "wo-a", options{})
	startTracedDrone(t, w, nil)
	context := func(n byte) nats.Header {
		digit := string(rune('0' + n))
		return nats.Header{"traceparent": {"00-" + strings.Repeat(digit, 32) + "-" + strings.Repeat(digit, 16) + "-01"}, "tracestate": {"vendor=" + digit}}
	}
	ask := func(subject string, payload any, header nats.Header) []byte {
		t.Helper()
		data, refusal := w.await(w.send(subject, messages.Encode(payload), header))
		if refusal != nil {
			t.Fatalf("%s: %v", subject, refusal)
		}
		return data
	}
	continues := func(what string, got, want nats.Header) {
		t.Helper()
		if got.Get("traceparent") != want.Get("traceparent") || got.Get("tracestate") != want.Get("tracestate") {
			t.Errorf("%s: the headers are %v, wanted those of %v", what, got, want)
		}
	}
	b := as[messages.ConnectResponse](t, ask(messages.SubjectConnect, spawnKey("traced"), context(1)))
	awaitStatus(t, w, b.BackendID, messages.Ready)
	ask(messages.SubjectRevoke, messages.RevokeRequest{BackendID: b.BackendID, User: new("")}, context(2))
	ask(messages.SubjectDrain, messages.DrainRequest{Drone: "dr-a"}, context(3))
	actions := natstest.Conn(t, w.url)
	heard, reported := make(chan *nats.Msg, 8), make(chan *nats.Msg, 64)
	_, err := actions.ChanSubscribe(messages.ActionSubject("dr-a"), heard)
	must(t, err)
	_, err = actions.ChanSubscribe(messages.ReportSubject("dr-a"), reported)
	must(t, err)
	must(t, actions.Flush())
	naps := []func(nats.Header){ // by hand, and by who joins
		func(h nats.Header) { ask(messages.SubjectSleep, messages.NapRequest{BackendID: b.BackendID}, h) },
		func(h nats.Header) { ask(messages.SubjectWake, messages.NapRequest{BackendID: b.BackendID}, h) },
		func(h nats.Header) { ask(messages.SubjectSleep, messages.NapRequest{BackendID: b.BackendID}, h) },
		func(h nats.Header) { ask(messages.SubjectConnect, spawnKey("traced"), h) },
	}
	for i, nap := range naps {
		want := context(byte(5 + i))
		nap(want)
		continues("the action of the nap", testkit.Receive(t, heard, "the action").Header, want)
		for said := false; !said; {
			for _, r := range as[messages.ReportRequest](t, testkit.Receive(t, reported, "the report").Data).Reports {
				if said = r.Nap.Nap == int64(i+1); said {
					continues("the report of the nap", nats.Header{"traceparent": {r.Traceparent}, "tracestate": {r.Tracestate}}, want)
				}
			}
		}
	}
	napped := events(t, w, messages.SleepEventSubject(b.BackendID))
	if len(napped) != len(naps) {
		t.Errorf("there are %d events of sleep", len(napped))
	}
	for i, msg := range napped {
		continues("the event of the nap", msg.Header, context(byte(5+i)))
	}
	ask(messages.SubjectTerminate, messages.TerminateRequest{BackendID: b.BackendID}, context(4))
	continues("the action terminate", testkit.Receive(t, heard, "the action").Header, context(4))
	awaitStatus(t, w, b.BackendID, messages.Terminated)
	for _, msg := range events(t, w, messages.BackendEventSubject(b.BackendID)) {
		want := context(1)
		event := as[messages.StateEvent](t, msg.Data)
		if event.Status.Leaving() {
			want = context(4)
		}
		continues("the event of "+event.Status.String(), msg.Header, want)
	}
	continues("the event of the revocation", events(t, w, messages.TokenEventSubject(b.BackendID))[0].Header, context(2))
	drains := events(t, w, messages.DroneEventSubject("dr-a"))
	continues("the event of the drain", drains[len(drains)-1].Header, context(3))
	ask(messages.SubjectUndrain, messages.DrainRequest{Drone: "dr-a"}, nil)

	for i, invalid := range []string{
		"00-" + strings.Repeat("0", 32) + "-" + strings.Repeat("1", 16) + "-01", "00-" + strings.Repeat("1", 32) + "-" + strings.Repeat("0", 16) + "-01",
		"ff-" + strings.Repeat("1", 32) + "-" + strings.Repeat("1", 16) + "-01", "00-" + strings.Repeat("A", 32) + "-" + strings.Repeat("1", 16) + "-01",
		strings.Repeat("1", 55), "00-" + strings.Repeat("1", 32) + "-" + strings.Repeat("1", 16) + "-01-more",
	} {
		r := spawnKey("untraced-" + string(rune('a'+i)))
		b := as[messages.ConnectResponse](t, ask(messages.SubjectConnect, r, nats.Header{"traceparent": {invalid}, "tracestate": {"vendor=1"}}))
		testkit.Eventually(t, "the event is published", func() bool { return len(events(t, w, messages.BackendEventSubject(b.BackendID))) > 0 })
		if header := events(t, w, messages.BackendEventSubject(b.BackendID))[0].Header; header.Get("traceparent") != "" || header.Get("tracestate") != "" {
			t.Errorf("%s was carried on: %v", invalid, header)
		}
	}
	if !slices.Contains(numbers(t, w, b.BackendID), messages.Terminated) {
		t.Error("the end is missing")
	}
}
