package cli

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"testing"

	"github.com/coder/websocket"

	"github.com/jetway-project/jetway/internal/runtime/fake"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// The demand: a proxy that dies stops counting. Of two backends with a WebSocket each, that
// whose proxy is killed ends as idle; the other one, whose proxy lives, does not.
func TestBackendOfADeadProxyEndsAsIdle(t *testing.T) {
	t.Parallel()
	s := newSiteIn(t, briefStack(t), "fake") // where idle backends are looked for often, too
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true}); err == nil {
			_, _, _ = ws.Read(context.WithoutCancel(r.Context()))
		}
	}))
	t.Cleanup(backend.Close)
	type visited struct {
		backend string
		proxy   *exec.Cmd
	}
	visit := func(name string) visited {
		proxy, address := s.proxy("px-" + name)
		// More where a machine is so slow that it ends before its visitor comes.
		for idle := int64(2); ; idle *= 2 {
			resp, err := insist[messages.ConnectResponse](t, s.nc, messages.SubjectConnect, messages.ConnectRequest{
				Key: s.key(name),
				SpawnConfig: &messages.SpawnConfig{
					Executable: fake.Script{Address: backend.Listener.Addr().String()}.Executable(), MaxIdleSeconds: &idle,
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			_, err = testkit.WebSocket(t, "ws://"+address+"/"+resp.Token+"/", &websocket.DialOptions{Host: s.stack.Cluster})
			if err != nil && s.status(resp.BackendID).Reason == messages.ReasonSwept {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			return visited{resp.BackendID, proxy}
		}
	}
	lives, dies := visit("lives"), visit("dies")
	if err := dies.proxy.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if got := s.awaitStatus(dies.backend, messages.Terminated); got.Reason != messages.ReasonSwept {
		t.Errorf("the one without a proxy ended as %+v", got)
	}
	if got := s.status(lives.backend); got.Status != messages.Ready {
		t.Errorf("the one that somebody is at is %+v", got)
	}
}

// proxy starts a proxy as a process of its own, and waits until it serves.
func (s *site) proxy(name string) (cmd *exec.Cmd, address string) {
	s.t.Helper()
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	address = s.freeAddress()
	return s.proxyAt(address, self, name), address
}

func (s *site) freeAddress() string {
	s.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// proxyAt is proxy at an address, with a program.
func (s *site) proxyAt(address, program, name string) *exec.Cmd {
	s.t.Helper()
	cmd := exec.Command(program, "--log-level=warn", "proxy", "--nats", s.stack.NATSURL, "--name", name, "--listen", address)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	testkit.Eventually(s.t, "the proxy serves", func() bool {
		resp, err := http.Get("http://" + address + "/ready")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	return cmd
}
