package drone_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/drone"
	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/fake"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/messages"
)

func portOf(t *testing.T, raw string) int {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// realRig is like rig, with real processes.
func realRig(t *testing.T, change ...func(*drone.Config)) *hub {
	t.Helper()
	server := natstest.Server(t)
	h := newHub(t, server.URL())
	start(t, server.URL(), processes(t), change...).awaitReady()
	return h
}

func TestLifeOfAProcess(t *testing.T) {
	t.Parallel()
	h := realRig(t)
	said := make(chan *nats.Msg, 16)
	if _, err := h.nc.ChanSubscribe(messages.SubjectAllLogs, said); err != nil {
		t.Fatal(err)
	}
	if err := h.nc.FlushTimeout(testkit.Patience); err != nil {
		t.Fatal(err)
	}
	h.spawn("b-1", plays("serves"), func(s *messages.Spawn) { s.StaticToken = "s.secret" })
	states := h.await("b-1", messages.Ready)
	want := []messages.Status{messages.Loading, messages.Starting, messages.Waiting, messages.Ready}
	if !slices.Equal(statusesOf(states), want) || states[2].Address == "" || states[3].Address != states[2].Address {
		t.Fatalf("states %+v", states)
	}

	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+states[3].Address+"/", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	for name, want := range map[string]string{
		"ID": "b-1 true", "KEY": "doc-b-1 true", "NAMESPACE": "ns true", "FENCING_TOKEN": "7 true", "STATIC_TOKEN": "s.secret true",
	} {
		if got := resp.Header.Get("X-" + name); got != want {
			t.Errorf("SESSION_BACKEND_%s: %q, want %q", name, got, want)
		}
	}
	msg := testkit.Receive(t, said, "an output line arrives")
	var line messages.LogLine
	if err := json.Unmarshal(msg.Data, &line); err != nil || line.Line != "listening" || line.Stream != "stdout" || msg.Subject != messages.LogSubject("b-1") {
		t.Fatalf("%s: %+v, %v", msg.Subject, line, err)
	}

	h.terminate("b-1", false)
	if got := h.end("b-1"); got.Kind != messages.Soft || got.Reason != messages.ReasonExternal {
		t.Fatalf("ended as %+v", got)
	}
}

func TestProcessThatIgnoresSIGTERMIsKilledAfterTheGrace(t *testing.T) {
	t.Parallel()
	var now hands
	h := realRig(t, now.is)
	h.spawn("b-1", plays("deaf"))
	h.await("b-1", messages.Ready)
	h.terminate("b-1", false)
	h.await("b-1", messages.Terminating)
	now.move(grace)
	if got := h.end("b-1"); got.Kind != messages.Hard || got.Reason != messages.ReasonExternal {
		t.Fatalf("ended as %+v", got)
	}
	want := []messages.Status{messages.Terminating, messages.HardTerminating, messages.Terminated}
	if states := statusesOf(h.await("b-1", messages.Terminated)); !slices.Equal(states[4:], want) {
		t.Fatalf("states %v", states)
	}
}

func TestStartThatFailsSaysWhy(t *testing.T) {
	t.Parallel()
	h := realRig(t)
	h.spawn("b-missing", json.RawMessage(`{"command":["nothing-there"]}`))
	h.spawn("b-exits", plays("exits"))
	if got := h.end("b-missing"); got.Reason != messages.ReasonStartFailed || got.Kind != "" || !strings.Contains(got.Message, "nothing-there") {
		t.Errorf("ended as %+v", got)
	}
	got := h.end("b-exits")
	if got.Reason != messages.ReasonStartFailed || got.ExitCode == nil || *got.ExitCode != 3 {
		t.Errorf("ended as %+v", got)
	}
	for _, words := range []string{"exit code 3", "looking for the database", "there is  no database"} {
		if !strings.Contains(got.Message, words) {
			t.Errorf("the message lacks %q: %q", words, got.Message)
		}
	}
}

func TestStartErrorsOfTheRuntimeAreTheMessage(t *testing.T) {
	t.Parallel()
	h, _, _ := rig(t)
	h.spawn("b-1", fake.Script{PrepareError: "no such image"}.Executable())
	h.spawn("b-2", fake.Script{StartError: "exec format error" + strings.Repeat("\x01<", messages.MaxText)}.Executable())
	if got := h.end("b-1"); got.Reason != messages.ReasonStartFailed || got.Message != "no such image" {
		t.Errorf("ended as %+v", got)
	}
	if got := h.end("b-2"); !strings.HasPrefix(got.Message, "exec format error<") || len(got.Message) > messages.MaxText {
		t.Errorf("ended as %+v", got)
	}
}

func TestProcessThatNeverListensEndsByTheStartupTimeout(t *testing.T) {
	t.Parallel()
	var now hands
	h := realRig(t, now.is, func(c *drone.Config) { c.StartupTimeout = soft / 2 })
	h.spawn("b-1", plays("mute"))
	h.await("b-1", messages.Waiting)
	now.move(soft / 2)
	if got := h.end("b-1"); got.Reason != messages.ReasonStartupTimeout || got.Kind != messages.Hard || got.LastStatus != messages.HardTerminating {
		t.Fatalf("ended as %+v", got)
	}
}

func TestPreparingThatTakesTooLongIsGivenUp(t *testing.T) {
	t.Parallel()
	var now hands
	h, _, _ := rig(t, now.is, func(c *drone.Config) { c.StartupTimeout = soft / 2 })
	h.spawn("b-1", fake.Script{PrepareFor: fake.Duration(time.Hour)}.Executable())
	h.await("b-1", messages.Loading)
	now.move(soft / 2)
	if got := h.end("b-1"); got.Reason != messages.ReasonStartupTimeout {
		t.Fatalf("ended as %+v", got)
	}
}

func TestSoftTerminationWhileLoadingEndsIt(t *testing.T) {
	t.Parallel()
	h, rt, _ := rig(t)
	h.spawn("b-1", fake.Script{PrepareFor: fake.Duration(time.Hour)}.Executable())
	h.await("b-1", messages.Loading)
	h.terminate("b-1", false)
	if got := h.end("b-1"); got.Kind != messages.Soft || got.Reason != messages.ReasonExternal || len(rt.Live()) != 0 {
		t.Fatalf("ended as %+v", got)
	}
}

// Why a backend dies stands at the end of its output, however much that is, also after it was ready.
func TestLastWordsOfABackendThatWasReady(t *testing.T) {
	t.Parallel()
	h := realRig(t)
	h.spawn("b-1", plays("panics"))
	states := h.await("b-1", messages.Ready)
	if resp, err := http.Get("http://" + states[len(states)-1].Address + "/panic"); err == nil {
		_ = resp.Body.Close()
	}
	got := h.end("b-1")
	if got.Kind != "" || got.Reason != "" || got.ExitCode == nil || *got.ExitCode != 2 {
		t.Errorf("ended as %+v", got)
	}
	if want := "line 2999\npanic: no room left"; !strings.Contains(got.Message, "its last output:\n") || !strings.HasSuffix(got.Message, want) {
		t.Errorf("the message is %q, without %q", got.Message, want)
	}
}

func TestBackendThatEndsByItselfHasItsExitCode(t *testing.T) {
	t.Parallel()
	h, rt, _ := rig(t)
	h.spawn("b-1", fake.Script{}.Executable())
	h.await("b-1", messages.Ready)
	rt.Live()[0].End(runtime.Exit{Code: 5})
	if got := h.end("b-1"); got.Kind != "" || got.Reason != "" || got.ExitCode == nil || *got.ExitCode != 5 {
		t.Fatalf("ended as %+v", got)
	}
}

// Whatever a backend answers, it is ready; a redirect is not followed.
func TestAnyAnswerToTheProbeCounts(t *testing.T) {
	t.Parallel()
	asked := make(chan string, 16)
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Method + " " + r.URL.Path
		http.Redirect(w, r, "/elsewhere", http.StatusFound)
	}))
	defer backend.Close()
	h, _, _ := rig(t)
	h.spawn("b-1", fake.Script{Address: backend.Listener.Addr().String()}.Executable())
	h.await("b-1", messages.Ready)
	if got := <-asked; got != "HEAD /" || len(asked) != 0 {
		t.Fatalf("asked %s and %d more", got, len(asked))
	}
}

func TestShutdownEndsEverythingAndSaysSo(t *testing.T) {
	t.Parallel()
	var now hands
	h, rt, a := rig(t, now.is)
	for _, id := range []string{"b-1", "b-2", "b-3"} {
		h.spawn(id, fake.Script{IgnoreTerm: id == "b-3"}.Executable())
		h.await(id, messages.Ready)
	}
	h.spawn("b-4", fake.Script{PrepareFor: fake.Duration(time.Hour)}.Executable())
	h.await("b-4", messages.Loading)
	a.stop()
	for _, id := range []string{"b-1", "b-2", "b-4"} {
		h.end(id)
	}
	h.await("b-3", messages.Terminating)
	now.move(grace)
	if err := a.end(); err != nil {
		t.Fatal(err)
	}
	if n := len(rt.Live()); n != 0 {
		t.Fatalf("%d run on", n)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, kind := range map[string]messages.TerminationKind{"b-1": messages.Soft, "b-2": messages.Soft, "b-3": messages.Hard, "b-4": messages.Soft} {
		got := h.states[id][len(h.states[id])-1]
		if got.Status != messages.Terminated || got.Kind != kind || got.Reason != messages.ReasonExternal {
			t.Errorf("%s ended as %+v", id, got)
		}
	}
	if last := h.heartbeats[len(h.heartbeats)-1]; last.Ready {
		t.Error("the last heartbeat says that the drone takes spawns")
	}
}

// Slow workers are no reason to leave ends untold: only such as take nothing more. Its small form is
// TestEndIsToldAsLongAsWorkersTakeSomething.
func TestShutdownWaitsForSlowWorkers(t *testing.T) {
	testkit.Long(t)
	t.Parallel()
	server := natstest.Server(t)
	h := newHub(t, server.URL())
	h.everyMS = 20_000 // as patient is the drone with each of its requests
	_, a := rigOn(t, server.URL())
	const backends = 2000
	for i := range backends {
		h.spawn(fmt.Sprintf("b-%d", i), fake.Script{}.Executable())
	}
	for i := range backends {
		h.await(fmt.Sprintf("b-%d", i), messages.Ready)
	}
	h.set(func() { h.slow = time.Second })
	if err := a.end(); err != nil {
		t.Fatal(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, states := range h.states {
		if last := states[len(states)-1]; last.Status != messages.Terminated {
			t.Fatalf("the workers were last told of %s that it is %s", id, last.Status)
		}
	}
}

func TestShutdownWithoutWorkersIsBounded(t *testing.T) {
	t.Parallel()
	h, rt, a := rig(t)
	h.spawn("b-1", fake.Script{}.Executable())
	h.await("b-1", messages.Ready)
	h.down()
	if err := a.end(); err == nil || !strings.Contains(err.Error(), "no worker has taken the end of 1 backends") {
		t.Fatalf("got %v", err)
	}
	if n := len(rt.Live()); n != 0 {
		t.Fatalf("%d run on", n)
	}
}

func TestClosedConnectionEndsTheDrone(t *testing.T) {
	t.Parallel()
	server := natstest.Server(t)
	h := newHub(t, server.URL())
	nc := natstest.Conn(t, server.URL())
	rt := fake.New()
	ready, result := make(chan struct{}), make(chan error, 1)
	go func() {
		result <- drone.Run(t.Context(), drone.Config{
			Name: droneName(t), Cluster: "localhost:9090", Grace: grace, ShutdownTimeout: testkit.Patience,
			OnReady: func() { close(ready) },
		}, nc, rt)
	}()
	<-ready
	h.spawn("b-1", fake.Script{}.Executable())
	h.await("b-1", messages.Ready)
	nc.Close()
	if err := <-result; err == nil || !strings.Contains(err.Error(), "connection closed") {
		t.Fatalf("got %v", err)
	}
	if n := len(rt.Live()); n != 0 {
		t.Fatalf("%d run on", n)
	}
}
