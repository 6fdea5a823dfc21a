package bench

import (
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// serveBackend runs the backend until the test ends.
func serveBackend(t *testing.T) target {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- ServeBackend(ctx, listener) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return target{name: "there", address: listener.Addr().String(), host: "bench.invalid"}
}

// Every load comes through to the backend, and each answer is looked at.
func TestLoads(t *testing.T) {
	there := serveBackend(t)
	cfg := ProxyConfig{Duration: 30 * time.Millisecond, InFlight: 8, Sockets: 20, Turns: 3}
	for _, l := range proxyLoads {
		nginx := there
		nginx.name = ViaNginx
		figures, err := measure(t.Context(), &cfg, l, []target{there, nginx})
		if err != nil {
			t.Fatalf("%s: %v", l.name, err)
		}
		for _, f := range figures {
			if f.Failed != 0 || f.Count == 0 || f.P50 <= 0 || f.P99 < f.P50 || f.Rate <= 0 || f.Low <= 0 || f.OfNginx < f.Low || f.High < f.OfNginx {
				t.Errorf("%s: %+v", l.name, f)
			}
		}
	}
}

// answering is a server that answers whatever it is sent with these bytes.
func answering(t *testing.T, answer string) target {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 4096))
			_, _ = io.WriteString(conn, answer)
			_ = conn.Close()
		}
	})
	t.Cleanup(func() { _ = listener.Close(); serving.Wait() })
	return target{address: listener.Addr().String(), host: "bench.invalid"}
}

// What a proxy gets wrong is no success.
func TestWrongAnswersFail(t *testing.T) {
	for answer, want := range map[string]string{
		"":                                 "EOF",
		"HTTP/1.1 502 Bad Gateway\r\n\r\n": "502",
		"HTTP/1.1 200 OK\r\n\r\n":          "no length",
		"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n":     "length is",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi":   "EOF",
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nmore": "more than the response",
	} {
		conn := &httpConn{target: answering(t, answer), path: smallPath}
		if err := conn.do(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, wanted %q", answer, err, want)
		}
	}
	for answer, want := range map[string]string{
		"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n":                                           "200",
		"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: no\r\n\r\n":                   "no",
		"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: " + accepted + "\r\n\r\n\x82": "more than the response",
	} {
		there := answering(t, answer)
		if s, err := openSockets(t.Context(), &there, 1, testkit.Patience); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v %v, wanted %q", answer, s, err, want)
		}
	}
}

// The echo unmasks, also messages that come in pieces or several at once.
func TestEchoes(t *testing.T) {
	one := []byte("\x82\x85\x01\x02\x03\x04\x69\x67\x6f\x68\x6e") // "hello" under the mask
	var buf []byte
	var got strings.Builder
	for _, b := range append(append([]byte{}, one...), one...) {
		buf = append(buf, b)
		out, used, err := echoes(buf)
		if err != nil {
			t.Fatal(err)
		}
		got.Write(out)
		buf = append([]byte{}, buf[used:]...)
	}
	both := append(append([]byte{}, one...), one...)
	out, used, err := echoes(both)
	if want := "\x82\x05hello\x82\x05hello"; err != nil || used != 2*len(one) || got.String() != want || string(out) != want {
		t.Errorf("in pieces %q, at once %q, %v", got.String(), out, err)
	}
	for _, bad := range []string{"\x81\x85123456", "\x82\x05123456", "\x82\xfe123456"} {
		if _, _, err := echoes([]byte(bad)); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestProxyConfigRefused(t *testing.T) {
	for want, cfg := range map[string]ProxyConfig{
		"concurrency": {InFlight: -1}, "sockets": {Sockets: 10001}, "procs": {Procs: -1},
		"duration": {Duration: time.Millisecond}, "turns": {Turns: -1}, "loads": {Loads: []string{"all"}},
	} {
		if err := cfg.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}
