package gateway_test

import (
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/messages"
)

const (
	trace  = "4bf92f3577b34da6a3ce929d0e0e4736"
	parent = "00-" + trace + "-00f067aa0ba902b7-01"
)

// What a request causes continues the trace of who asked: its event on the bus says so.
func TestTracesAreContinuedOnTheBus(t *testing.T) {
	t.Parallel()
	f := start(t)
	js := natstest.JetStream(t, f.nc)
	for path, connect := range map[string]string{
		"/v1/connect":   `{"key":{"name":"traced-v1"},` + spawn + `}`,
		"/ctrl/connect": `{"key":{"name":"traced-plane"},` + spawn + `}`,
	} {
		got := f.ask("POST", path, connect, "traceparent", parent, "tracestate", "vendor=1")
		b := into[messages.ConnectResponse](t, got)
		stream, err := js.Stream(testkit.Context(t), messages.StreamEvents)
		must(t, err)
		f.await(b.BackendID, messages.Ready)
		last, err := stream.GetLastMsgForSubject(testkit.Context(t), messages.BackendEventSubject(b.BackendID))
		must(t, err)
		if last.Header.Get(messages.HeaderTraceparent) != parent || last.Header.Get(messages.HeaderTracestate) != "vendor=1" {
			t.Errorf("%s: its event has %v", path, last.Header)
		}
	}
}

// What is no trace is not passed on, and refuses no request.
func TestBadTracesAreLeftOut(t *testing.T) {
	t.Parallel()
	nc := natstest.Conn(t, natstest.Server(t).URL())
	heads := make(chan nats.Header, 1)
	_, err := nc.Subscribe(messages.SubjectTerminate, func(m *nats.Msg) { heads <- m.Header; _ = m.Respond([]byte("{}")) })
	must(t, err)
	must(t, nc.FlushWithContext(testkit.Context(t)))
	f := startOn(t, nc.ConnectedUrl())
	for _, c := range []struct{ parent, state, passed, passedState string }{
		{parent, "a=1", parent, "a=1"},
		{parent, "", parent, ""},
		{parent, strings.Repeat("a=1,", 200), parent, ""},
		{parent, "a=\u00e4", parent, ""},
		{strings.ToUpper(parent), "a=1", "", ""},
		{"00-" + strings.Repeat("0", 32) + "-00f067aa0ba902b7-01", "a=1", "", ""},
		{parent + "-more", "", "", ""},
		{"nonsense", "", "", ""},
		{"", "a=1", "", ""},
	} {
		want(t, f.ask("POST", "/v1/terminate", `{"backend_id":"b"}`, "traceparent", c.parent, "tracestate", c.state), 200, "{}")
		got := testkit.Receive(t, heads, "the request")
		if got.Get(messages.HeaderTraceparent) != c.passed || got.Get(messages.HeaderTracestate) != c.passedState {
			t.Errorf("%+v: passed on are %v", c, got)
		}
	}
}
