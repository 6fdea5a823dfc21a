package socket

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/testkit"
)

// The demand: the server is told all that there is to know of a backend, and its word is passed on.
func TestABackendsLife(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	r := s.runtime()
	log, said := lines()
	var progress []string
	spec := runtime.Spec{
		BackendID: "one", Namespace: "n", Key: "k", Executable: json.RawMessage(`{"image":"x"}`),
		Env: map[string]string{"SESSION_BACKEND_ID": "one"}, Log: log, Progress: func(text string) { progress = append(progress, text) },
	}
	s.says("prepare", `{"progress":"1 of 2 MB"}`+"\n"+`{"progress":"2 of 2 MB"}`+"\n"+`{"ready":true}`+"\n")
	if err := r.Prepare(testkit.Context(t), spec); err != nil || strings.Join(progress, ", ") != "1 of 2 MB, 2 of 2 MB" {
		t.Fatal(progress, err)
	}
	s.says("start", `{"address":"10.1.2.3:80","pid":4711}`)
	i := start(t, r, spec)
	if i.Address() != "10.1.2.3:80" || i.PID() != 4711 || i.Handle() != "one" {
		t.Errorf("it is %s, %d, %q", i.Address(), i.PID(), i.Handle())
	}
	got := s.awaits("start")
	if got.Drone != "dr-a" || got.BackendID != "one" || got.Namespace != "n" || got.Key != "k" || string(got.Executable) != `{"image":"x"}` || got.Env["SESSION_BACKEND_ID"] != "one" {
		t.Errorf("the server was told %+v", got)
	}
	if u, err := i.Usage(testkit.Context(t)); err != nil || u.CPU != 7 || u.MemUsed != 9 {
		t.Error(u, err)
	}
	s.stream <- `{"at":"1","backend_id":"one","stream":"stderr","line":"hel\u0000lo\nthere"}`
	s.stream <- `{"at":"2","backend_id":"nobody","stream":"stdout","line":"x"}`
	s.stream <- `{"at":"3","backend_id":"one","stream":"nothing","line":"x"}`
	s.stream <- `{"at":"4","backend_id":"one","stream":"notice","line":"half of it is lost"}`
	for _, want := range []string{"stderr hel\x00lo", "stderr there", "notice half of it is lost"} {
		if got := testkit.Receive(t, said, want); got != want {
			t.Errorf("%q instead of %q", got, want)
		}
	}
	for _, hard := range []bool{false, true} {
		s.says("terminate", `{"running":["one"]}`)
		if err := i.Terminate(testkit.Context(t), hard); err != nil || !running(i) {
			t.Fatal("it ended", err)
		}
		if got := s.awaits("terminate"); got.Hard != hard || len(got.BackendIDs) != 1 || got.BackendIDs[0] != "one" {
			t.Errorf("asked for %+v", got)
		}
	}
	s.stream <- `{"at":"5","backend_id":"one","ended":{"signal":"SIGKILL","message":"out of memory"}}`
	testkit.Receive(t, i.Done(), "the end")
	if got := i.Exit().String(); got != "ended by SIGKILL: out of memory" {
		t.Error(got)
	}
	if got := s.awaits("forget"); len(got.BackendIDs) != 1 || got.BackendIDs[0] != "one" {
		t.Errorf("asked for %+v", got)
	}
}

// The demand: what the server refuses is said in its own words, and nothing is ended for it.
func TestWhatTheServerRefuses(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	r := s.runtime()
	s.refuses("start", http.StatusBadRequest, `{"error":"no kernel of that name; name another"}`)
	s.refuses("terminate", http.StatusInternalServerError, `{}`)
	if i, err := r.Start(testkit.Context(t), runtime.Spec{BackendID: "one"}); err == nil || err.Error() != "no kernel of that name; name another" {
		t.Error(i, err)
	}
	s.says("prepare", `{"error":"no image of that name"}`+"\n")
	if err := r.Prepare(testkit.Context(t), runtime.Spec{}); err == nil || err.Error() != "no image of that name" {
		t.Error(err)
	}
	s.refuses("usage", http.StatusNotImplemented, `{"error":"it cannot be told"}`)
	if _, err := start2(t, s, r).Usage(testkit.Context(t)); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
}

func start2(t *testing.T, s *server, r *Runtime) runtime.Instance {
	t.Helper()
	s.says("start", `{}`)
	return start(t, r, runtime.Spec{BackendID: "two"})
}

// I1: when it cannot be told whether a backend was started, Start has it ended before it returns, and
// an end is only believed when the server says that nothing of it runs.
func TestI1AStartThatIsUnsureIsUndone(t *testing.T) {
	t.Parallel()
	for name, odd := range map[string]struct {
		says func(http.ResponseWriter, *http.Request, request)
		want string
	}{
		"garbage":         {text(http.StatusOK, "<html>"), "not what it should be"},
		"nothing":         {text(http.StatusOK, ""), "not what it should be"},
		"an error":        {text(http.StatusInternalServerError, `{"error":"KeyError('x')"}`), "it answers 500 Internal Server Error: KeyError('x')"},
		"no address":      {text(http.StatusOK, `{"address":"here"}`), "must be host:port"},
		"no port":         {text(http.StatusOK, `{"address":"here:0"}`), "must be host:port"},
		"pid of init":     {text(http.StatusOK, `{"pid":1}`), "pid 1"},
		"a redirection":   {text(http.StatusFound, ""), "it answers 302"},
		"half an answer":  {half, "broke off"},
		"nothing, closed": {func(http.ResponseWriter, *http.Request, request) { panic(http.ErrAbortHandler) }, "EOF"},
		"100 MB":          {endless(t), "longer than"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			r := s.runtime()
			s.does("start", odd.says)
			n := 0
			s.does("terminate", func(w http.ResponseWriter, r *http.Request, ask request) {
				if !ask.Hard || len(ask.BackendIDs) != 1 || ask.BackendIDs[0] != "one" {
					t.Errorf("asked for %+v", ask)
				}
				answers := []func(http.ResponseWriter, *http.Request, request){
					text(http.StatusInternalServerError, "oops"), text(http.StatusOK, `{"running":["one"]}`), text(http.StatusOK, `{"running":[]}`),
				}
				n++
				answers[n-1](w, r, ask)
			})
			_, err := r.Start(testkit.Context(t), runtime.Spec{BackendID: "one"})
			if err == nil || !strings.Contains(err.Error(), odd.want) || !strings.Contains(err.Error(), s.path) {
				t.Errorf("%v, without %q", err, odd.want)
			}
			if n != 3 {
				t.Errorf("it was asked to end %d times", n)
			}
		})
	}
}

func text(status int, body string) func(http.ResponseWriter, *http.Request, request) {
	return func(w http.ResponseWriter, _ *http.Request, _ request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

func half(w http.ResponseWriter, _ *http.Request, _ request) {
	w.Header().Set("Content-Length", "100")
	_, _ = w.Write([]byte(`{"address":`))
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// endless answers with as much as is taken, and fails the test if that is much.
func endless(t *testing.T) func(http.ResponseWriter, *http.Request, request) {
	t.Helper()
	return func(w http.ResponseWriter, _ *http.Request, _ request) {
		piece, sent := []byte(strings.Repeat("[", 64<<10)), 0
		for sent < 100<<20 {
			n, err := w.Write(piece)
			if sent += n; err != nil {
				break
			}
		}
		if sent > 2*maxAnswer {
			t.Errorf("%d bytes of it were read", sent)
		}
	}
}

// The demand: a server that hangs is given up, with each request, when who asks does so.
func TestAServerThatHangs(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	r := s.runtime()
	for _, what := range []string{"prepare", "start"} {
		hung := make(chan struct{}, 10)
		s.does(what, func(_ http.ResponseWriter, r *http.Request, _ request) {
			hung <- struct{}{}
			<-r.Context().Done()
		})
		ctx, cancel := context.WithCancelCause(testkit.Context(t))
		failed := make(chan error, 1)
		go func() {
			if what == "prepare" {
				failed <- r.Prepare(ctx, runtime.Spec{BackendID: "one"})
				return
			}
			_, err := r.Start(ctx, runtime.Spec{BackendID: "one"})
			failed <- err
		}()
		testkit.Receive(t, hung, "the request")
		cancel(errors.New("it took too long"))
		if err := testkit.Receive(t, failed, "its end"); err == nil || !strings.Contains(err.Error(), what+": it took too long") {
			t.Error(err)
		}
	}
	s.awaits("terminate")
}

// The demand: what is prepared breaks off in a clear error, whatever the server says.
func TestPrepareBreaksOff(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	r := s.runtime()
	for body, want := range map[string]string{
		``:                             "closed the connection in the middle",
		`{"progress":"x"}` + "\n":      "closed the connection in the middle",
		`{"ready":true}`:               "closed the connection in the middle",
		"<html>\n":                     "not what it should be",
		strings.Repeat("x", 2*maxLine): "is longer than",
	} {
		s.says("prepare", body)
		if err := r.Prepare(testkit.Context(t), runtime.Spec{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, without %q", body, err, want)
		}
	}
}

// I1: what is adopted is what the server says; what it does not know it is not to start any more.
func TestI1Adoption(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	r := s.fresh("")
	s.says("find", `{"backends":[{"backend_id":"one","address":"h:1","pid":0}]}`)
	i, err := r.Adopt(testkit.Context(t), runtime.Spec{BackendID: "one"}, "one")
	if err != nil || i.Address() != "h:1" || !running(i) {
		t.Fatal(i, err)
	}
	log, said := lines()
	s.says("find", `{"backends":[{"backend_id":"two","ended":{"exit_code":3},"output":[{"stream":"stdout","line":"bye"}]}]}`)
	i, err = r.Adopt(testkit.Context(t), runtime.Spec{BackendID: "two", Log: log}, "")
	if err != nil || running(i) || i.Exit().Code != 3 || testkit.Receive(t, said, "its last words") != "stdout bye" {
		t.Fatal(i, err)
	}
	s.says("find", `{"backends":[]}`)
	s.says("terminate", `{"running":["three"]}`)
	if _, err = r.Adopt(testkit.Context(t), runtime.Spec{BackendID: "three"}, ""); !errors.Is(err, errAgain) {
		t.Error(err)
	}
	s.says("terminate", `{"running":[]}`)
	i, err = r.Adopt(testkit.Context(t), runtime.Spec{BackendID: "three"}, "")
	if err != nil || running(i) || i.Exit() != unknown {
		t.Error(i, err)
	}
	if got := s.awaits("terminate"); !got.Hard || got.BackendIDs[0] != "three" {
		t.Errorf("asked for %+v", got)
	}
	s.says("find", `{"backends":[{"backend_id":"No Such"}]}`)
	if _, err = r.Find(testkit.Context(t)); err == nil || !strings.Contains(err.Error(), "No Such") {
		t.Error(err)
	}
}

// The demand: the guard ends backends by the server, and is able to only while it answers.
func TestEnder(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	if _, err := NewEnder("here"); err == nil {
		t.Error("a relative path is taken")
	}
	e, err := NewEnder(s.path)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Able(testkit.Context(t)); err != nil {
		t.Error(err)
	}
	s.awaits("terminate")
	s.says("terminate", `{"running":["two"]}`)
	left, err := e.End(testkit.Context(t), "dr-a", map[string]string{"one": "", "two": "a.test"})
	if err != nil || len(left) != 1 || left[0] != "two" {
		t.Error(left, err)
	}
	if got := s.awaits("terminate"); !got.Hard || got.Drone != "dr-a" || len(got.BackendIDs) != 2 {
		t.Errorf("asked for %+v", got)
	}
	s.end()
	if err := e.Able(testkit.Context(t)); err == nil || !strings.Contains(err.Error(), s.path) {
		t.Error(err)
	}
}

// The demand: credentials stay on no disk, and limits count.
func TestExecutables(t *testing.T) {
	t.Parallel()
	r := newServer(t).fresh("")
	safe, had := r.WithoutSecrets(json.RawMessage(`{"vm":"x","credentials":{"password":"p"}}`))
	if !had || string(safe) != `{"vm":"x"}` {
		t.Errorf("%s, %v", safe, had)
	}
	for _, raw := range []string{`{"vm": "x"}`, `["vm"]`, `null`} {
		if safe, had = r.WithoutSecrets(json.RawMessage(raw)); had || string(safe) != raw {
			t.Errorf("%s, %v", safe, had)
		}
	}
	got := r.Demands(json.RawMessage(`{"resource_limits":{"memory_limit_bytes":67108864,"cpu_period_percent":50}}`))
	if got != (runtime.Demands{MemoryBytes: 64 << 20, CPUMillis: 500}) {
		t.Errorf("%+v", got)
	}
	for _, raw := range []string{`null`, `7`, `{"resource_limits":7}`, `{"resource_limits":{"memory_limit_bytes":-1}}`} {
		if got := r.Demands(json.RawMessage(raw)); got != (runtime.Demands{}) {
			t.Errorf("%s: %+v", raw, got)
		}
	}
}
