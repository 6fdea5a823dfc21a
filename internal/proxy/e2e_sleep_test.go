package proxy_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/jetway-project/jetway/internal/proxy"
	"github.com/jetway-project/jetway/internal/runtime/process"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
	"github.com/jetway-project/jetway/messages/client"
)

// echoEnv has this binary be a backend that sends each message of a WebSocket back.
const echoEnv = "JETWAY_TEST_ECHO"

func init() {
	if os.Getenv(echoEnv) == "" {
		return
	}
	fmt.Println(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
		if err != nil {
			return
		}
		defer func() { _ = conn.CloseNow() }()
		for {
			kind, data, err := conn.Read(r.Context())
			if err != nil || conn.Write(r.Context(), kind, data) != nil {
				return
			}
		}
	})))
	os.Exit(1)
}

// sleeper is a backend of its own process that sleeps, and a visitor's WebSocket to it.
type sleeper struct {
	*stack
	id   string
	conn *websocket.Conn
}

// sleepers gives a stack that runs processes, whose proxy says often who is connected.
func sleepers(t *testing.T) *stack {
	t.Helper()
	root := t.TempDir()
	self, err := os.Executable()
	must(t, err)
	if os.Link(self, filepath.Join(root, "echo")) != nil { // it is on another file system
		binary, err := os.ReadFile(self)
		must(t, err)
		must(t, os.WriteFile(filepath.Join(root, "echo"), binary, 0o755))
	}
	rt, err := process.New(process.Config{Root: root})
	must(t, err)
	return newStackAt(t, rt, "127.0.0.1", func(c *proxy.Config) { c.KeepaliveInterval = 50 * time.Millisecond })
}

func (s *stack) sleeper(ignores bool) *sleeper {
	s.t.Helper()
	executable, err := json.Marshal(map[string]any{"command": []string{"echo"}, "env": map[string]string{echoEnv: "1"}})
	must(s.t, err)
	resp := s.connect(messages.ConnectRequest{SpawnConfig: &messages.SpawnConfig{
		Executable: executable, SleepAfterSeconds: new(int64(1)), SleepIgnoresIdleConnections: ignores,
	}})
	conn, err := testkit.WebSocket(s.t, "ws://"+s.addr+"/"+resp.Token+"/", nil)
	must(s.t, err)
	b := &sleeper{s, resp.BackendID, conn}
	b.echoes("hello")
	return b
}

// echoes has the visitor say something and hear it again.
func (b *sleeper) echoes(text string) {
	b.t.Helper()
	must(b.t, b.conn.Write(testkit.Context(b.t), websocket.MessageText, []byte(text)))
	_, back, err := b.conn.Read(testkit.Context(b.t))
	if err != nil || string(back) != text {
		b.t.Fatalf("said %q and heard %q, %v", text, back, err)
	}
}

func (b *sleeper) now() messages.BackendInfo {
	b.t.Helper()
	info, err := client.Request[messages.BackendInfo](testkit.Context(b.t), b.nc, messages.SubjectStatus, messages.StatusRequest{BackendID: b.id})
	must(b.t, err)
	return info
}

// sleep puts it to sleep, by hand.
func (b *sleeper) sleep() {
	b.t.Helper()
	testkit.Eventually(b.t, "it can be put to sleep", func() bool {
		resp, err := client.Request[messages.NapResponse](testkit.Context(b.t), b.nc, messages.SubjectSleep, messages.NapRequest{BackendID: b.id})
		return err == nil && resp.Asleep
	})
}

// The demand: with sleep_ignores_idle_connections a backend stays asleep while a visitor's WebSocket is open and silent, and a message of his
// wakes it, and is answered. Without, it is awake while somebody is connected.
func TestE2EI3BytesWakeAndConnectionsDoNot(t *testing.T) {
	t.Parallel()
	s := sleepers(t)
	b := s.sleeper(true)
	// A word that bytes have passed may be on its way yet; then it is awake once more.
	testkit.Eventually(t, "it stays asleep with somebody connected", func() bool {
		b.sleep()
		nap := b.now().Nap
		for range 3 {
			s.hearKeepalive()
		}
		return nap.Asleep && b.now().Nap.Nap == nap.Nap
	})
	b.echoes("good morning")
	testkit.Eventually(t, "it is awake, also to the workers", func() bool { return !b.now().Asleep })

	other := s.sleeper(false)
	other.sleep()
	testkit.Eventually(t, "it wakes, for somebody is connected", func() bool { return !other.now().Asleep })
	other.echoes("good morning")
}

// hearKeepalive waits for a word of the proxy that names all, and until a worker has dealt with it.
func (s *stack) hearKeepalive() {
	s.t.Helper()
	ctx := testkit.Context(s.t)
	for range 2 { // the proxy says one when the one before has been answered
		sub, err := s.nc.SubscribeSync(messages.SubjectAnyKeepalive)
		must(s.t, err)
		for partial := true; partial; {
			msg, err := sub.NextMsgWithContext(ctx)
			must(s.t, err)
			word, err := messages.Decode[messages.KeepaliveRequest](msg.Data)
			must(s.t, err)
			partial = word.Partial
		}
		must(s.t, sub.Unsubscribe())
	}
}

// The same without anybody's hand: it falls asleep when no byte has passed for long enough, and wakes with the first, again and again.
func TestE2EASilentWebSocketLetsItsBackendSleep(t *testing.T) {
	testkit.Long(t)
	t.Parallel()
	s := sleepers(t)
	b, other := s.sleeper(true), s.sleeper(false)
	for n := range 2 {
		testkit.Eventually(t, "it sleeps", func() bool { return b.now().Asleep })
		if other.now().Nap.Nap != 0 {
			t.Error("the other sleeps, and its connections count")
		}
		b.echoes(fmt.Sprint("good morning ", n))
		testkit.Eventually(t, "it is awake", func() bool { return !b.now().Asleep })
	}
}
