package cli

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/runtime/fake"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
	"github.com/jetway-project/jetway/messages/client"
)

// staleTrust is the least that --route-trust takes. Real time passes in these tests, for it is other processes' clocks that are to
// show it: so they wait for a little more than that, and nothing is judged by it.
const staleTrust = 2 * time.Second

// staleWorld has a backend whose port another drone's gets once it has ended, and a proxy that is to hear nothing of it.
type staleWorld struct {
	*site
	second *site // on the same host
	proxy  string
	server *httptest.Server

	mu      sync.Mutex
	page    string
	strayed []string // that came for a after its end
	over    string   // a's id, once it has ended
}

func newStaleWorld(t *testing.T, host string) *staleWorld {
	t.Helper()
	w := &staleWorld{site: newSite(t, "fake"), second: newSite(t, "fake")}
	w.page = "a"
	w.agent(t.TempDir(), "")
	w.second.agent(t.TempDir(), "")
	listener, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	w.server = httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if id := r.Header.Get("X-Verified-Backend"); id != "" && id == w.over {
			w.strayed = append(w.strayed, fmt.Sprint(r.Method, " of ", r.Header.Get("X-Verified-Username")))
		}
		_, _ = io.WriteString(rw, w.page)
	}))
	w.server.Listener = listener
	w.server.Config.SetKeepAlivesEnabled(false) // as of a process that has ended, no connection is left
	w.server.Start()
	t.Cleanup(w.server.Close)
	return w
}

// link is a link to a new backend on a site's drone, at the one port.
func (w *staleWorld) link(s *site, key string) *messages.ConnectResponse {
	w.t.Helper()
	var resp messages.ConnectResponse
	testkit.Eventually(w.t, "a drone takes a backend", func() (ok bool) {
		var err error
		resp, err = insist[messages.ConnectResponse](w.t, w.nc, messages.SubjectConnect, messages.ConnectRequest{
			Key: s.key(key), User: "ada",
			SpawnConfig: &messages.SpawnConfig{Pool: s.pool, Executable: fake.Script{Address: w.server.Listener.Addr().String()}.Executable()},
		})
		return err == nil
	})
	w.awaitStatus(resp.BackendID, messages.Ready)
	return &resp
}

// ask asks by a link, and gives what came.
func (w *staleWorld) ask(link *messages.ConnectResponse) (status int, body string) {
	w.t.Helper()
	return w.answer(w.send(link))
}

func (w *staleWorld) send(link *messages.ConnectResponse) net.Conn {
	w.t.Helper()
	conn, err := net.Dial("tcp", w.proxy)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = conn.Close() })
	w.sendOn(conn, link)
	return conn
}

func (w *staleWorld) sendOn(conn net.Conn, link *messages.ConnectResponse) {
	w.t.Helper()
	_ = conn.SetDeadline(time.Now().Add(testkit.Patience))
	_, err := fmt.Fprintf(conn, "GET /%s/ HTTP/1.1\r\nHost: %s\r\n\r\n", link.Token, w.stack.Cluster)
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *staleWorld) answer(conn net.Conn) (status int, body string) {
	w.t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	all, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.StatusCode, string(all)
}

// passes ends a, and lets a backend of the second drone have its port.
func (w *staleWorld) passes(a *messages.ConnectResponse) (b *messages.ConnectResponse) {
	w.t.Helper()
	if _, err := client.RequestRaw(testkit.Context(w.t), w.nc, messages.SubjectTerminate, messages.Encode(messages.TerminateRequest{BackendID: a.BackendID, Hard: true})); err != nil {
		w.t.Fatal(err)
	}
	w.awaitStatus(a.BackendID, messages.Terminated)
	w.mu.Lock()
	w.page, w.over = "b", a.BackendID
	w.mu.Unlock()
	return w.link(w.second, "b")
}

// neverB asks by a's link, with what was sent before, and finds that nothing of it has got to b.
func (w *staleWorld) neverB(a *messages.ConnectResponse, sent []net.Conn) {
	w.t.Helper()
	for range 5 {
		sent = append(sent, w.send(a))
	}
	for _, conn := range sent {
		if status, body := w.answer(conn); status != http.StatusServiceUnavailable && status != http.StatusGone {
			w.t.Errorf("a's link gives %d %q", status, body)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.strayed) > 0 {
		w.t.Errorf("b was led what was a's: %q", w.strayed)
	}
}

// finds waits until the proxy hears again: then a's link leads nowhere, and b's to b.
func (w *staleWorld) finds(a, b *messages.ConnectResponse) {
	w.t.Helper()
	testkit.Eventually(w.t, "a's link leads nowhere", func() bool { status, _ := w.ask(a); return status == http.StatusGone })
	testkit.Eventually(w.t, "b's link leads to b", func() bool { status, body := w.ask(b); return status == http.StatusOK && body == "b" })
}

// Never the wrong place: a proxy is stopped, NATS is healthy, and clients go on asking meanwhile. A second drone's backend has got the
// port by the time the proxy goes on: none of what was queued gets to it.
func TestProxyThatWasStoppedLeadsNoLinkToWhoGotThePort(t *testing.T) {
	t.Parallel()
	w := newStaleWorld(t, "127.0.0.1")
	w.proxy = w.freeAddress()
	cmd := w.proxyBy(exec.Command, w.stack.NATSURL, w.proxy, "--route-trust", staleTrust.String())
	a := w.link(w.site, "a")
	testkit.Eventually(t, "a's link leads to a", func() bool { status, body := w.ask(a); return status == http.StatusOK && body == "a" })

	// On connections that are there already, requests are waiting for the proxy the moment that it goes on.
	var sent []net.Conn
	for range 50 {
		conn := w.send(a)
		w.answer(conn)
		sent = append(sent, conn)
	}
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	rested := time.After(staleTrust + staleTrust/10)
	b := w.passes(a)
	for _, conn := range sent {
		w.sendOn(conn, a)
	}
	testkit.Receive(t, rested, "the time for which routes are trusted")
	if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	w.neverB(a, sent)
	w.finds(a, b)
}

// Never the wrong place: a proxy on a machine of its own is cut off from NATS, while clients and backends reach it.
func TestProxyThatIsCutOffLeadsNoLinkToWhoGotThePort(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		testkit.LeaveOut(t, "a machine of its own takes a network namespace", "run it as root")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		testkit.LeaveOut(t, "a machine of its own takes the ip command", "apt-get install iproute2")
	}
	m := newMachine(t)
	w := newStaleWorld(t, m.host[data])
	nats := strings.TrimPrefix(w.stack.NATSURL, "nats://")
	listener, err := net.Listen("tcp", net.JoinHostPort(m.host[control], "0"))
	if err != nil {
		t.Fatal(err)
	}
	var carrying sync.WaitGroup
	carrying.Go(func() { carryTo(listener, nats) })
	t.Cleanup(func() { _ = listener.Close(); carrying.Wait() })
	w.proxy = net.JoinHostPort(m.own[data], "9090")
	w.proxyBy(m.command, "nats://"+listener.Addr().String(), w.proxy, "--route-trust", staleTrust.String())
	a := w.link(w.site, "a")
	testkit.Eventually(t, "a's link leads to a", func() bool { status, body := w.ask(a); return status == http.StatusOK && body == "a" })

	m.ip("link", "set", m.links[control], "down")
	rested := time.After(staleTrust + staleTrust/10)
	b := w.passes(a)
	testkit.Receive(t, rested, "the time for which routes are trusted")
	w.neverB(a, nil)
	m.ip("link", "set", m.links[control], "up")
	w.finds(a, b)
}

// proxyBy starts a proxy by what makes its command, and waits until it serves.
func (w *staleWorld) proxyBy(command func(string, ...string) *exec.Cmd, nats, listen string, flags ...string) *exec.Cmd {
	w.t.Helper()
	self, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := command(self, append([]string{"--log-level=warn", "proxy", "--nats", nats, "--name", "px-" + w.drone, "--listen", listen}, flags...)...)
	told := newOutput()
	cmd.Stderr = told
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if w.t.Failed() {
			w.t.Logf("the proxy said:\n%s", told)
		}
	})
	testkit.Eventually(w.t, "the proxy serves", func() bool {
		resp, err := http.Get("http://" + listen + "/ready")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	return cmd
}

// machine is a network namespace with two links to this one.
type machine struct {
	t                *testing.T
	name             string
	links, host, own [2]string
}

const control, data = 0, 1

func newMachine(t *testing.T) *machine {
	t.Helper()
	n := rand.IntN(1 << 16)
	m := &machine{t: t, name: fmt.Sprintf("jw%04x", n)}
	m.ip("netns", "add", m.name)
	t.Cleanup(func() {
		// Not by the test's context, which has ended.
		if out, err := exec.CommandContext(context.Background(), "ip", "netns", "del", m.name).CombinedOutput(); err != nil {
			t.Errorf("remove the namespace: %v: %s", err, out)
		}
	})
	for i := range m.links {
		m.links[i] = fmt.Sprintf("%s-%d", m.name, i)
		net := fmt.Sprintf("10.%d.%d.", 128+n>>9, n>>1&0xff)
		m.host[i], m.own[i] = fmt.Sprint(net, 128*(n&1)+4*i+1), fmt.Sprint(net, 128*(n&1)+4*i+2)
		m.ip("link", "add", m.links[i], "type", "veth", "peer", "name", "eth"+fmt.Sprint(i), "netns", m.name)
		m.ip("addr", "add", m.host[i]+"/30", "dev", m.links[i])
		m.ip("link", "set", m.links[i], "up")
		m.ip("-n", m.name, "addr", "add", m.own[i]+"/30", "dev", "eth"+fmt.Sprint(i))
		m.ip("-n", m.name, "link", "set", "eth"+fmt.Sprint(i), "up")
	}
	return m
}

func (m *machine) ip(args ...string) {
	m.t.Helper()
	if out, err := exec.CommandContext(testkit.Context(m.t), "ip", args...).CombinedOutput(); err != nil {
		m.t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// command is exec.Command on the machine.
func (m *machine) command(name string, args ...string) *exec.Cmd {
	return exec.Command("ip", append([]string{"netns", "exec", m.name, name}, args...)...)
}

// The demand: a proxy that has no descriptors left says so, and what to do.
func TestI8ProxyWithoutDescriptorsSaysSo(t *testing.T) {
	t.Parallel()
	s := newSite(t, "fake")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	address := s.freeAddress()
	cmd := exec.Command("sh", "-c", `ulimit -n 64; exec "$@"`, "sh", self, "proxy", "--nats", s.stack.NATSURL, "--name", "px-"+s.drone,
		"--listen", address, "--max-client-connections", "1000")
	told := newOutput()
	cmd.Stderr = told
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	testkit.Eventually(t, "the proxy serves", func() bool { return strings.Contains(told.String(), "serving") })
	for range 100 {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
	told.await(t, `WARN[^\n]*no file descriptors are left[^\n]*(LimitNOFILE|ulimit)`)
}
