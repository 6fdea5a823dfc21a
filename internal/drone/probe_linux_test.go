package drone

import (
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// silent is an instance of this process that is to listen at an address.
type silent struct {
	runtime.Instance
	address string
	done    chan struct{}
}

func (s silent) Address() string       { return s.address }
func (s silent) PID() int              { return os.Getpid() }
func (s silent) Done() <-chan struct{} { return s.done }

// inBox is one in a container.
type inBox struct{ silent }

func (inBox) ListensAt() string { return "0.0.0.0:8080" }

func listen(t *testing.T, address string) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener
}

// says takes connections and begins each with a text.
func says(t *testing.T, text string) string {
	t.Helper()
	listener := listen(t, "127.0.0.1:0")
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 1024)) // else the close would be a reset
			_, _ = conn.Write([]byte(text))
			_ = conn.Close()
		}
	}()
	return listener.Addr().String()
}

// Who waits for a start that does not answer is told what the probe met.
func TestStartThatNeverAnswersSaysWhatTheProbeMet(t *testing.T) {
	t.Parallel()
	free := listen(t, "127.0.0.1:0")
	refused := free.Addr().String()
	_ = free.Close()
	six := listen(t, "[::1]:0").Addr().String()
	_, sixPort, _ := net.SplitHostPort(six)
	other := listen(t, "127.0.0.1:0").Addr().String()

	only2 := listen(t, "127.0.0.1:0")
	server := &http.Server{Protocols: new(http.Protocols), ReadHeaderTimeout: time.Minute}
	server.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = server.Serve(only2) }()
	t.Cleanup(func() { _ = server.Close() })

	done := make(chan struct{})
	t.Cleanup(func() { close(done) })
	at := func(address string) runtime.Instance { return silent{address: address, done: done} }
	for name, c := range map[string]struct {
		instance runtime.Instance
		met      []string
	}{
		"nothing listens":    {at(refused), []string{"connection refused"}},
		"another family":     {at("127.0.0.1:" + sixPort), []string{"connection refused", "it listens on ", six, "must listen at HOST and PORT"}},
		"another port":       {at(refused), []string{"it listens on ", other, "must listen at HOST and PORT"}},
		"in a container":     {inBox{silent{address: refused, done: done}}, []string{other, "must listen at 0.0.0.0:8080"}},
		"HTTP/2 only":        {at(only2.Addr().String()), []string{"it speaks HTTP/2 only"}},
		"closes connections": {at(says(t, "")), []string{"it closes connections without an answer"}},
		"mail":               {at(says(t, "220 mail ESMTP\r\n")), []string{`its answer is not HTTP/1.1: malformed HTTP`}},
		"TLS":                {at(says(t, "\x15\x03\x01\x00\x02\x02\x46")), []string{"it speaks TLS"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := &agent{cfg: Config{StartupTimeout: time.Minute}}
			h := &held{address: c.instance.Address(), backend: backend{status: messages.Waiting}, lines: new(lines)}
			h.lines.keepLatest("starting up")
			probing := make(chan struct{})
			go func() {
				defer close(probing)
				if a.probe(t.Context(), h, c.instance) {
					t.Error("it answers")
				}
			}()
			t.Cleanup(func() { <-probing }) // t's context has ended by then
			text := ""
			testkit.Eventually(t, "what the probe met is told", func() bool {
				a.mu.Lock()
				defer a.mu.Unlock()
				text = a.tardyText(h)
				return h.met != ""
			})
			for _, want := range append(c.met, "it did not answer HTTP at "+h.address+" within 1m0s of its start: ", "; its last output: starting up") {
				if !strings.Contains(text, want) {
					t.Errorf("it says %q, without %q", text, want)
				}
			}
		})
	}
}
