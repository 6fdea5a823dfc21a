package proxy

import (
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// quietWorld has one backend that sleeps, and hears the proxy's words.
type quietWorld struct {
	*world
	words   <-chan messages.KeepaliveRequest
	answer  chan struct{} // requests for /stream are answered
	speak   chan struct{} // the backend says something
	ping    chan struct{} // it sends a ping
	ignores bool
}

func newQuietWorld(w *world, ignores bool) *quietWorld {
	q := &quietWorld{world: w, words: w.words(), answer: make(chan struct{}), speak: make(chan struct{}, 1), ping: make(chan struct{}), ignores: ignores}
	route := ready("be-a", backend(w.t, q.serve))
	route.Sleeps, route.SleepIgnoresIdleConnections = true, ignores
	w.worker.route(token("a"), route)
	return q
}

func (q *quietWorld) serve(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/stream" {
		<-q.answer
		_ = http.NewResponseController(w).Flush()
		for range q.speak {
			_, _ = io.WriteString(w, "something")
			_ = http.NewResponseController(w).Flush()
		}
		return
	}
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		return
	}
	defer func() { _ = conn.CloseNow() }()
	ctx := r.Context()
	go func() {
		for {
			if _, _, err := conn.Read(ctx); err != nil {
				return
			}
		}
	}()
	for {
		select {
		case _, goesOn := <-q.speak:
			if !goesOn || conn.Write(ctx, websocket.MessageText, []byte("something")) != nil {
				return
			}
		case <-q.ping:
			must(q.t, conn.Ping(ctx))
			q.ping <- struct{}{}
		}
	}
}

// hears gives whether the next full word says that there is silence.
func (q *quietWorld) hears() bool {
	q.t.Helper()
	q.proxy.tell(q.t.Context(), q.proxy.activity.connected, false)
	for {
		word := testkit.Receive(q.t, q.words, "a word that names all")
		if word.Partial {
			continue
		}
		if len(word.Backends) != 1 || word.IdleMS[0] != 0 {
			q.t.Fatalf("told %+v", word)
		}
		return len(word.SilentMS) > 0
	}
}

// falls waits until the words say so: the first after a byte does not.
func (q *quietWorld) falls(what string) {
	q.t.Helper()
	testkit.Eventually(q.t, what, q.hears)
	if !q.hears() {
		q.t.Error("one word says that there is silence, and the next that there is not")
	}
}

// wakes waits for the word, at once, that a byte has passed.
func (q *quietWorld) wakes(what string, act func()) {
	q.t.Helper()
	act()
	word := testkit.Receive(q.t, q.words, what)
	if !word.Partial || fmt.Sprint(word.Backends, word.IdleMS, word.SilentMS) != "[be-a] [0] []" {
		q.t.Errorf("%s: told %+v", what, word)
	}
}

// The demand: where bytes count, words say for how long none has passed while connections are open, and at once that one passes again, whichever side it comes
// from and whoever carries it. What could not be told is told with the next word.
func TestI3BytesAreToldAtOnceAfterSilence(t *testing.T) {
	hourly := func(c *Config) { c.KeepaliveInterval = time.Hour }
	for name, c := range map[string]struct {
		world func() *world
		open  func(w *world) *websocket.Conn
	}{
		"by a loop": {func() *world { return newWorld(t, hourly) }, func(w *world) *websocket.Conn {
			conn, _, err := websocket.Dial(testkit.Context(t), "ws://"+w.addr+"/"+token("a")+"/", &websocket.DialOptions{Host: cluster})
			must(t, err)
			return conn
		}},
		"by goroutines, of HTTP/2": {func() *world { return newTLSWorld(t, hourly) }, func(w *world) *websocket.Conn {
			return w.tunnels().must(w, "/"+token("a")+"/")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			q := newQuietWorld(c.world(), true)
			conn := c.open(q.world)
			defer func() { _ = conn.CloseNow() }()
			write := func() { must(t, conn.Write(testkit.Context(t), websocket.MessageText, []byte("hello"))) }
			q.falls("silence after the handshake")
			q.wakes("a byte of the visitor", write)
			q.falls("silence after it")
			q.wakes("a byte of the backend", func() { q.speak <- struct{}{} })
			q.falls("silence after that")
			_, _, err := conn.Read(testkit.Context(t))
			must(t, err)
			ctx := conn.CloseRead(t.Context()) // which answers pings
			q.ping <- struct{}{}
			testkit.Receive(t, q.ping, "the visitor's answer to a ping of the backend")
			if !q.hears() {
				t.Error("a ping of the backend, and its answer, keep it awake")
			}
			q.wakes("a ping of the visitor, which is to be answered", func() { must(t, conn.Ping(ctx)) })
			q.falls("silence after the ping")
			q.wakes("another visitor", func() {
				another := c.open(q.world)
				t.Cleanup(func() { _ = another.CloseNow() })
			})
			q.falls("silence of both")

			fail := func(failing bool) {
				q.worker.mu.Lock()
				defer q.worker.mu.Unlock()
				q.worker.failing = failing
			}
			fail(true)
			q.wakes("a byte while no worker answers", write)
			testkit.Eventually(t, "it to have failed", func() bool { return q.log.contains("cannot tell the workers") })
			fail(false)
			if q.hears() {
				t.Error("what could not be told is not told again")
			}
			close(q.speak)
		})
	}
}

// Who waits for an answer is no idle connection, however long that takes; a stream of which the answer has begun is one. Where connections count,
// nothing is said of silence.
func TestWhatIsAnsweredHoldsABackendAwake(t *testing.T) {
	for _, ignores := range []bool{true, false} {
		t.Run(fmt.Sprint(ignores), func(t *testing.T) {
			q := newQuietWorld(newWorld(t, func(c *Config) { c.KeepaliveInterval = time.Hour }), ignores)
			q.get("/" + token("a") + "/") // no WebSocket; and the route is known from here on, so that a loop has the next request first
			got := make(chan *http.Response, 1)
			go func() {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+cluster+"/"+token("a")+"/stream", nil)
				must(t, err)
				resp, err := q.client.Do(req)
				must(t, err)
				got <- resp
			}()
			testkit.Eventually(t, "the request to be under way", func() bool { return len(q.proxy.activity.passages("be-a")) == 1 })
			for range 3 {
				if q.hears() {
					t.Fatal("somebody waits for an answer, and that is called silence")
				}
			}
			close(q.answer)
			resp := testkit.Receive(t, got, "the answer to begin")
			defer func() { _ = resp.Body.Close() }()
			if ignores {
				q.falls("silence of a stream")
				q.wakes("a byte of the stream", func() { q.speak <- struct{}{} })
			}
			for range 3 {
				if !ignores && q.hears() {
					t.Fatal("where connections count, there is talk of silence")
				}
			}
			close(q.speak)
		})
	}
}
