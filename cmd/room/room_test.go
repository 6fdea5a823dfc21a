package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("net/http.(*persistConn).writeLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"))
}

func openRoom(t *testing.T) (*room, string) {
	t.Helper()
	r := newRoom(info{BackendID: "b1", Key: "k", FencingToken: "7"}, newLogger(io.Discard))
	server := httptest.NewUnstartedServer(r.handler())
	server.Config.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		_ = conn.(*net.TCPConn).SetWriteBuffer(16 << 10) // so that who does not read is noticed soon
		return ctx
	}
	server.Start()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), goodbye)
		defer cancel()
		r.close(ctx)
		server.Close()
	})
	return r, server.URL
}

type visitor struct {
	*websocket.Conn
	t   *testing.T
	ctx context.Context
}

func visit(t *testing.T, url string, header http.Header) visitor {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	header = header.Clone()
	if header == nil {
		header = http.Header{}
	}
	header.Set("Origin", "https://elsewhere.example")
	conn, _, err := websocket.Dial(ctx, url+"/ws", &websocket.DialOptions{HTTPHeader: header})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.CloseNow() })
	conn.SetReadLimit(16 << 20)
	return visitor{conn, t, ctx}
}

func (v visitor) say(format string, args ...any) {
	v.t.Helper()
	if err := v.Write(v.ctx, websocket.MessageText, fmt.Appendf(nil, format, args...)); err != nil {
		v.t.Fatal(err)
	}
}

// hear waits for an event that fits.
func (v visitor) hear(kind string, fits func(event) bool) event {
	v.t.Helper()
	for {
		_, message, err := v.Read(v.ctx)
		if err != nil {
			v.t.Fatalf("waiting for %q: %v", kind, err)
		}
		var e event
		if err := json.Unmarshal(message, &e); err != nil {
			v.t.Fatal(err)
		}
		if e.Type == kind && (fits == nil || fits(e)) {
			return e
		}
	}
}

func counts(n int64) func(event) bool {
	return func(e event) bool { return *e.Count == n }
}

func TestVisitorsShareTheCounter(t *testing.T) {
	t.Parallel()
	_, url := openRoom(t)
	one, two := visit(t, url, nil), visit(t, url, nil)
	one.hear("people", func(e event) bool { return len(e.People) == 2 })
	one.say(`{"t":"inc"}`)
	two.hear("count", counts(1))
	two.say(`{"t":"inc"}`)
	one.hear("count", counts(2))
	two.hear("count", counts(2))
}

func TestLateVisitorSeesTheState(t *testing.T) {
	t.Parallel()
	_, url := openRoom(t)
	early := visit(t, url, nil)
	early.say(`{"t":"inc"}`)
	early.say(`{"t":"draw","w":900,"p":[1,2,30000,-4]}`)
	early.say(`{"t":"draw","w":5,"p":[1,2,3]}`) // half a point: ignored
	early.say(`{"t":"name","name":"  Ada\n Lovelace "}`)
	early.hear("people", func(e event) bool { return e.People[0].Name == "Ada Lovelace" })

	late := visit(t, url, http.Header{
		"X-Verified-Username": {"grace"}, "X-Verified-Path": {"/tok/ws"}, "X-Verified-User-Data": {`{"a":1}`},
	})
	hello := late.hear("hello", counts(1))
	if len(hello.Strokes) != 1 || fmt.Sprint(hello.Strokes[0].Points) != "[1 2 10000 0]" || hello.Strokes[0].Width != 60 {
		t.Errorf("strokes %+v", hello.Strokes)
	}
	if *hello.You != (you{Username: "grace", Path: "/tok/ws", UserData: `{"a":1}`}) || hello.Info.FencingToken != "7" {
		t.Errorf("hello %+v", hello)
	}
	late.say(`{"t":"name","name":"somebody else"}`) // a verified name stays
	late.say(`{"t":"clear"}`)
	early.hear("clear", nil)
	people := late.hear("people", nil).People
	if len(people) != 2 || people[1].Name != "grace" || !people[1].Verified || people[0].Verified {
		t.Errorf("people %+v", people)
	}
	third := visit(t, url, nil)
	if hello := third.hear("hello", nil); len(hello.Strokes) != 0 {
		t.Errorf("strokes after clear: %+v", hello.Strokes)
	}
}

func TestStrokesAreBounded(t *testing.T) {
	t.Parallel()
	r := newRoom(info{}, newLogger(io.Discard))
	c := newClient(nil, you{})
	for n := range 3 * maxStrokes {
		r.handle(c, request{Type: "draw", Points: []int{n % 10_000, 1}})
	}
	if n := len(r.strokes); n > maxStrokes || n < maxStrokes/2 {
		t.Fatalf("%d strokes are kept", n)
	}
	if last := r.strokes[len(r.strokes)-1].Points[0]; last != (3*maxStrokes-1)%10_000 {
		t.Fatalf("the last stroke is %d", last)
	}
}

func TestSlowVisitorIsDropped(t *testing.T) {
	t.Parallel()
	r, url := openRoom(t)
	visit(t, url, nil) // never reads
	quick := visit(t, url, nil)
	quick.hear("people", func(e event) bool { return len(e.People) == 2 })
	points := strings.Repeat("1234,5678,", maxStrokePairs-1) + "1,2"
	for here := 2; here == 2; {
		// In step, so that the quick one never falls behind itself.
		quick.say(`{"t":"draw","w":5,"p":[%s]}`, points)
		quick.hear("stroke", nil)
		r.mu.Lock()
		here = len(r.clients)
		r.mu.Unlock()
	}
	quick.say(`{"t":"inc"}`)
	quick.hear("count", counts(1))
}

// pipes is a listener in memory, which works with the time of synctest.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	if conn, ok := <-p; ok {
		return conn, nil
	}
	return nil, net.ErrClosed
}

func (p pipes) Close() error   { close(p); return nil }
func (p pipes) Addr() net.Addr { return new(net.IPAddr) }

func (p pipes) dial(context.Context, string, string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	p <- theirs
	return ours, nil
}

// The room waits for those who do not answer its goodbye for no more than a second.
func TestGoodbyeIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, listener := newRoom(info{}, newLogger(io.Discard)), make(pipes)
		server := &http.Server{Handler: r.handler()}
		ended := make(chan error, 1)
		go func() { ended <- server.Serve(listener) }()
		deaf, _, err := websocket.Dial(t.Context(), "http://room/ws", &websocket.DialOptions{
			HTTPClient: &http.Client{Transport: &http.Transport{DialContext: listener.dial}},
		})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // it is in, and never reads
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), goodbye)
		defer cancel()
		r.close(ctx)
		if took := time.Since(began); took > time.Second {
			t.Errorf("it took %v", took)
		}
		_ = deaf.CloseNow()
		_ = server.Close()
		<-ended
	})
}

func TestBadMessagesEndTheConnection(t *testing.T) {
	t.Parallel()
	_, url := openRoom(t)
	for message, want := range map[string]websocket.StatusCode{
		"not JSON":                         websocket.StatusUnsupportedData,
		strings.Repeat(" ", maxMessage+10): websocket.StatusMessageTooBig,
	} {
		v := visit(t, url, nil)
		v.say("%s", message)
		var err error
		for err == nil {
			_, _, err = v.Read(v.ctx)
		}
		if got := websocket.CloseStatus(err); got != want {
			t.Errorf("closed with %v (%v), want %v", got, err, want)
		}
	}
}

func TestFullRoomTurnsAway(t *testing.T) {
	t.Parallel()
	r, url := openRoom(t)
	for range maxPeople {
		if !r.enter(newClient(nil, you{})) {
			t.Fatal("full too early")
		}
	}
	v := visit(t, url, nil)
	if _, _, err := v.Read(v.ctx); websocket.CloseStatus(err) != websocket.StatusTryAgainLater {
		t.Errorf("got %v", err)
	}
	r.mu.Lock()
	r.clients = nil // they have no connections to close
	r.leaving.Add(-maxPeople)
	r.mu.Unlock()
}

func TestPageAndInfo(t *testing.T) {
	t.Parallel()
	_, url := openRoom(t)
	for _, try := range []struct {
		method, path string
		status       int
		want         string
	}{
		{"HEAD", "/", 200, ""},
		{"GET", "/", 200, "<title>A shared room</title>"},
		{"GET", "/s.abc/", 200, "<title>A shared room</title>"},
		{"GET", "/s.abc", 200, "<title>A shared room</title>"}, // after a redirect
		{"GET", "/info", 200, `"backend_id":"b1","key":"k","namespace":"","fencing_token":"7"`},
		{"GET", "/s.abc/info", 200, `"backend_id":"b1"`},
		{"GET", "/elsewhere", 404, ""},
		{"POST", "/", 405, ""},
	} {
		request, err := http.NewRequestWithContext(t.Context(), try.method, url+try.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != try.status || !strings.Contains(string(body), try.want) {
			t.Errorf("%s %s: %d, %v", try.method, try.path, response.StatusCode, err)
		}
	}
	if strings.Contains(string(page), `src="`) || strings.Contains(string(page), `href="/`) {
		t.Error("the page loads something from elsewhere")
	}
}
