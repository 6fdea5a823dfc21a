package cli

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/jetway-project/jetway/messages"
)

const demoURL = "http://localhost:9090/tok/"

func granted(status messages.Status, spawned bool) func([]byte) any {
	return func([]byte) any {
		resp := messages.ConnectResponse{BackendID: "b1", Spawned: spawned, Status: status, Token: "tok", URL: demoURL}
		if spawned {
			resp.Drone = "dr-a"
		}
		return resp
	}
}

func TestConnectShowsStatesThenURL(t *testing.T) {
	t.Parallel()
	var w *fakeWorker
	w = newFakeWorker(t, map[string]func([]byte) any{messages.SubjectConnect: func([]byte) any {
		w.publish("b1", messages.State{Status: messages.Scheduled}, messages.State{Status: messages.Starting},
			messages.State{Status: messages.Waiting, Address: "127.0.0.1:4000"}, messages.State{Status: messages.Ready, Address: "127.0.0.1:4000"})
		return granted(messages.Scheduled, true)(nil)
	}})
	stdout, stderr, code := jetway(t, "connect", "--nats", w.url, "--key", "doc-1", "--namespace", "n", "--tag", "t",
		"--command", "room", "--env", "A=b=c", "--env", "C=d,e", "--id", "b1", "--cluster", "localhost:9090", "--pool", "p",
		"--user", "ann", "--auth", `{"x":1}`, "--max-idle", "60s", "--lifetime", "1h", "--subdomain", "s", "--origin",
		"--timeout", "30s", "--", "one", "--two")
	want(t, "stdout", stdout, `backend    b1 (started on dr-a)
key        n/doc-1:t
status     scheduled
TIME  starting
TIME  waiting           at 127.0.0.1:4000
TIME  ready             at 127.0.0.1:4000
`+demoURL+"\n")
	want(t, "stderr", stderr, "")
	wantCode(t, code, ExitOK)
	want(t, "request", string(w.last().Data), `{"key":{"name":"doc-1","namespace":"n","tag":"t"},"spawn_config":{"id":"b1",`+
		`"cluster":"localhost:9090","pool":"p","executable":{"command":["room","one","--two"],"env":{"A":"b=c","C":"d,e"}},`+
		`"lifetime_limit_seconds":3600,"max_idle_seconds":60,"subdomain":"s","origin":true},"user":"ann","auth":{"x":1}}`)
	// What is left of the time, however long it took to ask; all others have a minute here.
	timeout, err := time.ParseDuration(w.last().Header.Get(messages.HeaderTimeout))
	if err != nil || timeout <= 0 || timeout > 30*time.Second {
		t.Errorf("the worker was told %s, %v", timeout, err)
	}
	_, _, code = jetway(t, "connect", "--nats", w.url, "--command", "room", "--static-token", "--id", "b1")
	wantCode(t, code, ExitOK)
	want(t, "request for a static token", string(w.last().Data), `{"spawn_config":{"id":"b1","executable":{"command":["room"]},"use_static_token":true}}`)
}

func TestConnectJoinsWithoutCommand(t *testing.T) {
	t.Parallel()
	w := newFakeWorker(t, map[string]func([]byte) any{messages.SubjectConnect: granted(messages.Ready, false)})
	stdout, _, code := jetway(t, "connect", "--nats", w.url, "--key", "doc-1")
	want(t, "stdout", stdout, "backend    b1 (joined)\nkey        doc-1\nstatus     ready\n"+demoURL+"\n")
	wantCode(t, code, ExitOK)
	want(t, "request", string(w.last().Data), `{"key":{"name":"doc-1"}}`)
}

func TestConnectJSON(t *testing.T) {
	t.Parallel()
	w := newFakeWorker(t, map[string]func([]byte) any{messages.SubjectConnect: granted(messages.Waiting, true)})
	w.publish("b1", messages.State{Status: messages.Scheduled}, messages.State{Status: messages.Waiting}, messages.State{Status: messages.Ready})
	stdout, _, code := jetway(t, "connect", "--nats", w.url, "--executable", `{"image":"x"}`, "--json")
	var got messages.ConnectResponse
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || got.BackendID != "b1" || got.Status != messages.Ready {
		t.Errorf("printed %s: %v", stdout, err)
	}
	wantCode(t, code, ExitOK)
	want(t, "request", string(w.last().Data), `{"spawn_config":{"executable":{"image":"x"}}}`)
	stdout, _, code = jetway(t, "connect", "--nats", w.url, "--command", "room", "--json", "--no-wait")
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || got.URL != demoURL || got.Status != messages.Waiting || got.Drone != "dr-a" {
		t.Errorf("printed %s: %v", stdout, err)
	}
	wantCode(t, code, ExitOK)
}

func TestConnectEndedEarly(t *testing.T) {
	t.Parallel()
	w := newFakeWorker(t, map[string]func([]byte) any{messages.SubjectConnect: granted(messages.Scheduled, true)})
	code127 := 127
	w.publish("b1", messages.State{Status: messages.Scheduled}, messages.State{
		Status: messages.Terminated, Reason: messages.ReasonStartFailed, Message: "no such\nfile", ExitCode: &code127,
	})
	stdout, stderr, code := jetway(t, "connect", "--nats", w.url, "--key", "k", "--command", "nothing")
	want(t, "stdout", stdout, "backend    b1 (started on dr-a)\nkey        k\nstatus     scheduled\n"+
		"TIME  terminated        start-failed, exit code 127: no such file\n")
	want(t, "stderr", stderr, "jetway: backend b1 ended before it was ready, exit code 127: no such file (start-failed): jetway watch b1 shows how it went\n")
	wantCode(t, code, ExitFailed)
}

func TestConnectInterrupted(t *testing.T) {
	t.Parallel()
	w := newFakeWorker(t, map[string]func([]byte) any{messages.SubjectConnect: granted(messages.Scheduled, true)})
	connect := begin(t, "connect", "--nats", w.url, "--key", "k", "--command", "x")
	w.publish("b1", messages.State{Status: messages.Loading})
	connect.stdout.await(t, "loading")
	connect.stop()
	connect.ends(ExitInterrupted)
	want(t, "stderr", connect.stderr.String(), "jetway: the backend goes on: jetway watch b1\njetway: interrupted\n")
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	var refusal *messages.Error
	w := newFakeWorker(t, map[string]func([]byte) any{messages.SubjectConnect: func([]byte) any { return refusal }})
	for _, c := range []struct {
		refusal *messages.Error
		code    int
		line    string
	}{
		{messages.Errorf(messages.KeyHeld, "the key is held with another tag"), ExitFailed, "the key is held with another tag (KeyHeld): use the tag it runs with (jetway backends shows it), or end it first"},
		{messages.Errorf(messages.NoDroneAvailable, "no drone is ready"), ExitFailed, "no drone is ready (NoDroneAvailable): jetway drones shows who is ready; start one with jetway drone"},
		{messages.Errorf(messages.BadRequest, "spawn_config.pool: is bad: key.name"), ExitFailed, "--pool: is bad: key.name (BadRequest): mend the value and try again"},
		{messages.Errorf(messages.Unavailable, "Postgres cannot be reached"), ExitUnavailable, "Postgres cannot be reached (Unavailable): see that NATS, a worker and its database run; nats micro ls lists workers"},
		{&messages.Error{Kind: messages.Internal, Message: "something broke", ID: "e7"}, ExitFailed, "something broke (Internal): the worker's log says more, under id e7"},
		{&messages.Error{Kind: "New", Message: "of a newer worker"}, ExitFailed, "of a newer worker (New)"},
	} {
		refusal = c.refusal
		stdout, stderr, code := jetway(t, "connect", "--nats", w.url, "--key", "k")
		want(t, "stdout", stdout, "")
		want(t, "stderr", stderr, "jetway: "+c.line+"\n")
		wantCode(t, code, c.code)
	}
	for kind := range advice {
		if kind.Code() == 500 && kind != messages.Internal && kind != messages.FailedToAcquireKey {
			t.Errorf("advice for the unknown kind %s", kind)
		}
	}
}

func TestNobodyAnswers(t *testing.T) {
	t.Parallel()
	w := newFakeWorker(t, nil)
	_, stderr, code := jetway(t, "backends", "--nats", w.url)
	want(t, "stderr", stderr, "jetway: no worker answers on jetway.ctl.backends: is one running? (Unavailable): "+advice[messages.Unavailable]+"\n")
	wantCode(t, code, ExitUnavailable)
	_, stderr, code = jetway(t, "backends", "--nats", "nats://ann:secret@127.0.0.1:1")
	if !strings.HasPrefix(stderr, "jetway: cannot reach NATS at nats://ann:xxxxx@127.0.0.1:1: ") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("stderr is %q", stderr)
	}
	wantCode(t, code, ExitUnavailable)
}
