package testkit_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/jetway-project/jetway/internal/testkit"
)

// aWhile is how long nothing must happen.
const aWhile = 50 * time.Millisecond

// echoServer sends back what it gets, and its end.
func echoServer(t *testing.T, network, addr string) string {
	t.Helper()
	listener, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-done
	})
	return listener.Addr().String()
}

func newProxy(t *testing.T) *testkit.FaultProxy {
	t.Helper()
	return testkit.NewFaultProxy(t, echoServer(t, "tcp", "127.0.0.1:0"))
}

func dial(t *testing.T, p *testkit.FaultProxy) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn.(*net.TCPConn)
}

func send(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
}

func expect(t *testing.T, conn net.Conn, want string) {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(testkit.Patience))
	got := make([]byte, len(want))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != want {
		t.Fatalf("read %q, %v; want %q", got, err, want)
	}
}

func expectSilence(t *testing.T, conn net.Conn) {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(aWhile))
	n, err := conn.Read(make([]byte, 1))
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read %d bytes, %v; want nothing", n, err)
	}
}

func expectEnd(t *testing.T, conn net.Conn) {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(testkit.Patience))
	if n, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read %d bytes, %v; want the end of the connection", n, err)
	}
}

// expectNoLink wants a new connection refused, or ended at once.
func expectNoLink(t *testing.T, p *testkit.FaultProxy) {
	t.Helper()
	if conn, err := net.Dial("tcp", p.Addr()); err == nil {
		defer conn.Close()
		expectEnd(t, conn)
	}
}

func TestFaultProxyPasses(t *testing.T) {
	t.Parallel()
	conn := dial(t, newProxy(t))
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	go func() {
		_, _ = conn.Write(sent)
		_ = conn.CloseWrite()
	}()
	_ = conn.SetReadDeadline(time.Now().Add(testkit.Patience))
	got, err := io.ReadAll(conn)
	if err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("read %d bytes, %v; want the %d sent", len(got), err, len(sent))
	}
}

func TestFaultProxyLeadsToUnixSocket(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "fp") // t.TempDir can be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	conn := dial(t, testkit.NewFaultProxy(t, echoServer(t, "unix", filepath.Join(dir, "s"))))
	send(t, conn, "hello")
	expect(t, conn, "hello")
}

func TestFaultProxyCutAndHeal(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	before := dial(t, p)
	send(t, before, "a")
	expect(t, before, "a")
	p.Cut()
	expectEnd(t, before)
	expectNoLink(t, p)
	p.Heal()
	after := dial(t, p)
	send(t, after, "b")
	expect(t, after, "b")
}

func TestFaultProxyStallAndHeal(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	before := dial(t, p)
	send(t, before, "a")
	expect(t, before, "a")
	p.Stall()
	during := dial(t, p)
	send(t, before, "b")
	send(t, during, "c")
	_ = during.CloseWrite()
	expectSilence(t, before)
	expectSilence(t, during)
	p.Heal()
	expect(t, before, "b")
	expect(t, during, "c")
	expectEnd(t, during)
}

func TestFaultProxyCutEndsStall(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	p.Stall()
	conn := dial(t, p)
	send(t, conn, "a")
	expectSilence(t, conn)
	p.Cut()
	expectEnd(t, conn)
}

func TestFaultProxyDelaysEachWay(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	conn := dial(t, p)
	p.Delay(aWhile)
	start := time.Now()
	send(t, conn, "a")
	expect(t, conn, "a")
	if took := time.Since(start); took < 2*aWhile {
		t.Errorf("there and back took %s, want at least %s", took, 2*aWhile)
	}
	p.Delay(time.Hour)
	send(t, conn, "b")
	expectSilence(t, conn)
	p.Heal()
	expect(t, conn, "b")
}

func TestFaultProxyRefusesWithoutTarget(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = listener.Close()
	expectNoLink(t, testkit.NewFaultProxy(t, listener.Addr().String()))
}

// Not parallel, so that no other test's goroutines are around.
func TestFaultProxyLeavesNothing(t *testing.T) {
	around := goleak.IgnoreCurrent()
	t.Run("in use", func(t *testing.T) {
		p := newProxy(t)
		conn := dial(t, p)
		send(t, conn, "a")
		expect(t, conn, "a")
		p.Stall()
		send(t, conn, "b")
		dial(t, p)
		p.Delay(time.Hour)
	})
	testkit.Eventually(t, "no goroutine is left", func() bool { return goleak.Find(around) == nil })
}
