package proxy

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/testkit"
)

// trusting believes what comes from this machine.
func trusting(c *Config) {
	c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8")}
}

// told has a backend say what it is told of the client.
func told(w http.ResponseWriter, r *http.Request) {
	_, _ = fmt.Fprintf(w, "%s %s", r.Header.Get("X-Forwarded-For"), r.Header.Get("X-Forwarded-Proto"))
	for name := range r.Header {
		if strings.HasPrefix(name, "Forwarded") {
			_, _ = fmt.Fprintf(w, " and %s", name)
		}
	}
}

// What a trusted proxy says of its client is believed, and what that client says is not; nobody else is believed.
func TestOriginIsWhatTrustedProxiesSay(t *testing.T) {
	worlds := map[bool]*world{true: newWorld(t, trusting), false: newWorld(t)}
	for _, w := range worlds {
		w.leads(token("a"), "be-a", told)
	}
	for name, c := range map[string]struct {
		header []string
		want   string
	}{
		"nothing":             {nil, "127.0.0.1 http"},
		"a client":            {[]string{"X-Forwarded-For", "192.0.2.1", "X-Forwarded-Proto", "https"}, "192.0.2.1 https"},
		"one that makes up":   {[]string{"X-Forwarded-For", "198.51.100.9, 192.0.2.1", "X-Forwarded-Proto", "https, http"}, "192.0.2.1 http"},
		"two proxies":         {[]string{"X-Forwarded-For", "198.51.100.9, 192.0.2.1, 10.1.2.3"}, "192.0.2.1 http"},
		"in two fields":       {[]string{"X-Forwarded-For", "198.51.100.9", "X-Forwarded-For", "192.0.2.1:4711"}, "192.0.2.1 http"},
		"trusted ones only":   {[]string{"X-Forwarded-For", "10.1.1.1, 10.1.2.3"}, "10.1.1.1 http"},
		"nonsense":            {[]string{"X-Forwarded-For", "192.0.2.1, unknown, 10.1.2.3", "X-Forwarded-Proto", "gopher"}, "10.1.2.3 http"},
		"version 6":           {[]string{"X-Forwarded-For", "2001:db8::1"}, "2001:db8::1 http"},
		"Forwarded":           {[]string{"Forwarded", `for=198.51.100.9, For="192.0.2.1:4711";proto=https;by=10.1.1.1`}, "192.0.2.1 https"},
		"Forwarded version 6": {[]string{"Forwarded", `for="[2001:db8::1]:4711"`}, "2001:db8::1 http"},
	} {
		for trusted, want := range map[bool]string{true: c.want, false: "127.0.0.1 http"} {
			w := worlds[trusted]
			equal(t, fmt.Sprint(name, ", trusted ", trusted), w.get("/"+token("a")+"/", c.header...).body, want)
		}
	}
}

// Behind a load balancer one scanner does not lock out the others.
func TestStrangersBehindATrustedProxyAreCountedEach(t *testing.T) {
	w := newWorld(t, trusting)
	w.leads(token("good"), "be-a", echo)
	for n := 0; w.get("/"+token(fmt.Sprint("wrong", n))+"/", "X-Forwarded-For", "192.0.2.66").status != http.StatusTooManyRequests; n++ {
	}
	equal(t, "another one behind it", w.get("/"+token("good")+"/", "X-Forwarded-For", "192.0.2.1").status, http.StatusOK)
}

func spoken2(command, family byte, rest []byte) string {
	head := append(append([]byte{}, signature2...), 0x20|command, family)
	return string(append(binary.BigEndian.AppendUint16(head, uint16(len(rest))), rest...))
}

func TestPROXYProtocolOfTrustedProxies(t *testing.T) {
	v4 := []byte{192, 0, 2, 1, 10, 0, 0, 1, 0x10, 0, 1, 0xbb}
	v6 := append(append(netip.MustParseAddr("2001:db8::1").AsSlice(), make([]byte, 16)...), 0x10, 0, 1, 0xbb)
	worlds := map[bool]*world{true: newWorld(t, trusting), false: newWorld(t)}
	for _, w := range worlds {
		w.leads(token("a"), "be-a", told)
	}
	for name, c := range map[string]struct{ head, want string }{
		"none":              {"", "127.0.0.1"},
		"version 1":         {"PROXY TCP4 192.0.2.1 10.0.0.1 56324 443\r\n", "192.0.2.1"},
		"version 1, v6":     {"PROXY TCP6 2001:db8::1 ::1 56324 443\r\n", "2001:db8::1"},
		"version 1 unknown": {"PROXY UNKNOWN\r\n", "127.0.0.1"},
		"version 2":         {spoken2(1, 0x11, v4), "192.0.2.1"},
		"version 2, more":   {spoken2(1, 0x11, append(v4, 3, 0, 4, 1, 2, 3, 4)), "192.0.2.1"},
		"version 2, v6":     {spoken2(1, 0x21, v6), "2001:db8::1"},
		"version 2 local":   {spoken2(0, 0, nil), "127.0.0.1"},
		"version 2 unix":    {spoken2(1, 0x31, make([]byte, 216)), "127.0.0.1"},
		"too long":          {"PROXY " + strings.Repeat("x", 200) + "\r\n", ""},
		"no address":        {"PROXY TCP4 a b c d\r\n", ""},
		"another family":    {"PROXY TCP4 2001:db8::1 ::1 56324 443\r\n", ""},
		"version 3":         {strings.Replace(spoken2(1, 0x11, v4), "\n\x21", "\n\x31", 1), ""},
		"cut short":         {spoken2(1, 0x11, v4[:8]), ""},
	} {
		for trusted, want := range map[bool]string{true: c.want, false: ""} {
			w := worlds[trusted]
			conn := w.dial(c.head + "GET /" + token("a") + "/ HTTP/1.1\r\nHost: " + cluster + "\r\nConnection: close\r\n\r\n")
			if c.head == "" {
				want = c.want
			}
			if want == "" { // else it would be a client that has left
				_ = conn.(*net.TCPConn).CloseWrite()
			}
			got := ""
			if resp, err := http.ReadResponse(bufio.NewReader(conn), nil); err == nil {
				if body, _ := io.ReadAll(resp.Body); resp.StatusCode == http.StatusOK {
					got, _, _ = strings.Cut(string(body), " ")
				}
				_ = resp.Body.Close()
			}
			equal(t, fmt.Sprint(name, ", trusted ", trusted), got, want)
			_ = conn.Close()
		}
	}
}

// An upgraded connection of a trusted proxy is carried as any other.
func TestUpgradeThroughThePROXYProtocol(t *testing.T) {
	w := newWorld(t, trusting)
	w.worker.route(token("a"), ready("be-a", rude(t, func(c net.Conn) {
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		_, _ = io.Copy(c, c)
	})))
	conn := w.dial("PROXY TCP4 192.0.2.1 10.0.0.1 56324 443\r\nGET /" + token("a") + "/ HTTP/1.1\r\nHost: " + cluster + "\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	in := bufio.NewReader(conn)
	_, err := http.ReadResponse(in, nil)
	must(t, err)
	_, err = io.WriteString(conn, "hello\n")
	must(t, err)
	line, err := in.ReadString('\n')
	must(t, err)
	equal(t, "echo", line, "hello\n")
}

// One client does not take all connections, upgraded ones included; when one of them is closed it may have another.
func TestClientHasAPartOfTheConnectionsAtMost(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.MaxClientConnections = 3 })
	w.worker.route(token("a"), ready("be-a", rude(t, func(c net.Conn) {
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		_, _ = io.Copy(c, c)
	})))
	open := w.dial("GET /" + token("a") + "/ HTTP/1.1\r\nHost: " + cluster + "\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	_, err := http.ReadResponse(bufio.NewReader(open), nil)
	must(t, err)
	first, second := w.dial("G"), w.dial("G")
	testkit.Eventually(t, "both to be there", func() bool { return w.counted() == 3 })
	mustBeCut(t, "one too many", w.dial("G"))
	testkit.Eventually(t, "it to be said", func() bool { return w.log.contains("--trusted-proxies") })
	for _, conn := range []net.Conn{open, first, second} {
		before := w.counted()
		_ = conn.Close()
		testkit.Eventually(t, "the place to be free", func() bool { return w.counted() < before })
	}
	w.worker.route(token("b"), ready("be-b", backend(t, echo)))
	equal(t, "status", w.get("/"+token("b")+"/").status, http.StatusOK)
}

// counted is how many connections the door counts.
func (w *world) counted() (n int) {
	w.proxy.door.mu.Lock()
	defer w.proxy.door.mu.Unlock()
	for _, m := range w.proxy.door.of {
		n += m
	}
	return n
}

// A refused request whose body does not come is answered, and its connection ends.
func TestRefusedRequestsBodyIsNotAwaited(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.RootRedirect = "https://jetway.test/" })
	for _, path := range []string{"/junk/x", "/", "/ready", "/" + token("none") + "/"} {
		for _, length := range []string{"Content-Length: 1000", "Transfer-Encoding: chunked"} {
			conn := w.dial("POST " + path + " HTTP/1.1\r\nHost: " + cluster + "\r\n" + length + "\r\n\r\n1")
			_ = conn.SetReadDeadline(time.Now().Add(testkit.Patience))
			said, err := io.ReadAll(conn)
			if err != nil || !strings.HasPrefix(string(said), "HTTP/1.1 ") {
				t.Errorf("%s with %s is answered %.40q, and ends with %v", path, length, said, err)
			}
		}
	}
}
