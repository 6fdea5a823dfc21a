package proxy_test

import (
	"bufio"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/proxy"
	"github.com/jetway-project/jetway/internal/runtime/fake"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// Garbage on the port is refused and costs nobody else anything (the demand): each
// connection is ended, and requests are served meanwhile and after.
func TestE2EGarbage(t *testing.T) {
	t.Parallel()
	s := newStack(t, nil)
	backend := newRawBackend(t, func(c *rawConn, _ string) { _, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi") })
	path := s.leads(backend.address)
	hasty := s.another(hasty)
	s.servesInTime(hasty, path)
	backend.took()
	var ending sync.WaitGroup
	random := make([]byte, 1<<16)
	_, _ = rand.Read(random)
	for name, bytes := range map[string]string{
		"random":                string(random),
		"nothing but zeros":     strings.Repeat("\x00", 1<<16),
		"nothing but newlines":  strings.Repeat("\r\n", 1<<15) + "\r\n\r\nx\r\n\r\n",
		"a line without an end": strings.Repeat("A", 4<<20),
		"TLS":                   "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + string(random[:512]),
		"SSH":                   "SSH-2.0-OpenSSH_9.9\r\n",
		"HTTP/2":                "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
		"PROXY":                 "PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\nGET " + path + " HTTP/1.1\r\nHost: " + s.cluster + "\r\n\r\n",
		"SMTP":                  "EHLO mail.example\r\nMAIL FROM:<a@b.example>\r\n\r\n",
		"a response":            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
		"a WebSocket frame":     text("hello") + "\r\n\r\n",
	} {
		conn := dialTo(t, hasty)
		ending.Go(func() {
			_, _ = io.WriteString(conn, bytes)
			if said := ends(t, conn, name); said != "" && !strings.HasPrefix(said, "HTTP/1.1 4") && !strings.HasPrefix(said, "HTTP/1.1 505") {
				t.Errorf("%s is answered with %.100q", name, said)
			}
		})
	}
	ending.Wait()
	if conns := backend.took(); len(conns) > 0 {
		t.Errorf("the backend was sent %q", conns[0].received())
	}
	s.servesInTime(hasty, path)
}

// servesInTime is serves at a proxy that may find even us too slow now and then.
func (s *stack) servesInTime(addr, path string) {
	s.t.Helper()
	testkit.Eventually(s.t, "a plain request is served", func() bool {
		got := s.sendTo(addr, "GET "+path+" HTTP/1.1\r\nHost: "+s.cluster+"\r\nConnection: close\r\n\r\n")
		if got.status != http.StatusOK && got.status != 0 {
			s.t.Fatalf("a plain request gets %d %q %v", got.status, got.body, got.err)
		}
		return got.status == http.StatusOK
	})
}

// Those who send a head a byte at a time keep nobody from being served, and are not waited
// for for ever (slowloris; I8).
func TestE2ESlowHeads(t *testing.T) {
	t.Parallel()
	s := newStack(t, nil)
	path := s.leads(httpBackend(t, hello))
	start := "GET " + path + " HTTP/1.1\r\nHost: " + s.cluster + "\r\nX-A: "
	for range 300 {
		_, err := io.WriteString(s.dial(), start)
		must(t, err)
	}
	s.serves(path)

	hasty := s.another(hasty)
	var ending sync.WaitGroup
	for range 20 {
		conn := dialTo(t, hasty)
		_, _ = io.WriteString(conn, start) // it may be too late already
		ending.Go(func() { _ = ends(t, conn, "a slow head") })
	}
	goesOn := dialTo(t, hasty) // but each byte is no new patience
	_, _ = io.WriteString(goesOn, start)
	testkit.Eventually(t, "the slow head to be ended", func() bool {
		_, err := goesOn.Write([]byte("a"))
		return err != nil
	})
	ending.Wait()
	s.servesInTime(hasty, path)
}

// Heads beyond all bounds are refused without being read whole, and reach nobody (header
// bombs; I8).
func TestE2EHeadBombs(t *testing.T) {
	t.Parallel()
	s := newStack(t, nil)
	var reached atomic.Int64
	path := s.leads(httpBackend(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			reached.Add(1)
		}
	}))
	start := "GET " + path + " HTTP/1.1\r\nHost: " + s.cluster + "\r\n"
	many := strings.Builder{}
	for n := range 200_000 {
		fmt.Fprintf(&many, "X-%d: a\r\n", n)
	}
	for name, head := range map[string]string{
		"a large header":       start + "X-A: " + strings.Repeat("a", 8<<20) + "\r\n\r\n",
		"a large name":         start + strings.Repeat("a", 8<<20) + ": a\r\n\r\n",
		"many headers":         start + many.String() + "\r\n",
		"one, again and again": start + strings.Repeat("X-A: a\r\n", 1<<20) + "\r\n",
		"a long path":          "GET " + path + strings.Repeat("a", 8<<20) + " HTTP/1.1\r\nHost: " + s.cluster + "\r\n\r\n",
		"a long query":         "GET " + path + "?" + strings.Repeat("a=b&", 2<<20) + " HTTP/1.1\r\nHost: " + s.cluster + "\r\n\r\n",
		"a long method":        strings.Repeat("A", 8<<20) + " " + path + " HTTP/1.1\r\nHost: " + s.cluster + "\r\n\r\n",
		"a long Host":          "GET " + path + " HTTP/1.1\r\nHost: " + strings.Repeat("a", 8<<20) + "\r\n\r\n",
		"large trailers": "POST " + path + " HTTP/1.1\r\nHost: " + s.cluster + "\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-A: " +
			strings.Repeat("a", 8<<20) + "\r\n\r\n",
		"a large chunk extension": "POST " + path + " HTTP/1.1\r\nHost: " + s.cluster + "\r\nTransfer-Encoding: chunked\r\n\r\n1;" +
			strings.Repeat("a", 8<<20) + "\r\na\r\n0\r\n\r\n",
	} {
		conn := s.dial()
		var sending sync.WaitGroup
		sending.Go(func() {
			_, _ = io.WriteString(conn, head)
			_ = conn.CloseWrite()
		})
		if said := ends(t, conn, name); said != "" && !strings.HasPrefix(said, "HTTP/1.1 4") {
			t.Errorf("%s: answered with %.100q", name, said)
		}
		_ = conn.Close()
		sending.Wait()
	}
	if n := reached.Load(); n > 0 {
		t.Errorf("%d of them have reached the backend", n)
	}
	// What fits is served.
	if got := s.send(start + "Connection: close\r\nX-A: " + strings.Repeat("a", 16<<10) + "\r\n\r\n"); got.status != http.StatusOK {
		t.Errorf("a header of 16 KiB gets %d", got.status)
	}
}

// Who tries tokens does not load the workers' database, and who has a token is served
// meanwhile (the demand; I8).
func TestE2ERandomTokens(t *testing.T) {
	s := newStack(t, nil)
	path := s.leads(httpBackend(t, hello))
	s.serves(path)
	var asked atomic.Int64
	sub, err := s.nc.Subscribe(messages.SubjectAnyRoute, func(*nats.Msg) { asked.Add(1) })
	must(t, err)
	must(t, s.nc.FlushTimeout(testkit.Patience))
	tries, start := testkit.Sized(t, 4_000, 100_000), time.Now()
	var trying sync.WaitGroup
	trying.Go(func() { s.scan(tries) })
	for range 20 {
		s.serves(path)
	}
	trying.Wait()
	most := proxy.StrangerBurst + scanners + int64(time.Since(start).Seconds()*proxy.StrangerRate) + 1
	s.serves(path)
	must(t, s.nc.FlushTimeout(testkit.Patience))
	if n := asked.Load(); n > most {
		t.Errorf("the workers were asked %d times about %d tokens, want %d at most", n, tries, most)
	}
	must(t, sub.Unsubscribe())
}

// Nor do they fill the proxy's memory: of further tokens nothing is kept (I8). Not beside
// other tests: it looks at the heap.
func TestE2EMemoryOfRandomTokens(t *testing.T) {
	s := newStack(t, nil)
	tries := testkit.Sized(t, 8_000, 100_000)
	s.scan(tries) // what pools and the lists of the unknown keep from now on
	var grown int64
	for range 10 { // what is kept is kept each time; what the process has in hand meanwhile is not
		before := heap()
		s.scan(tries)
		// A token takes 43 bytes, and what keeps it as much again.
		if grown = int64(heap()) - int64(before); grown <= 32*int64(tries) {
			return
		}
	}
	t.Errorf("%d KiB are kept of %d tokens", grown>>10, tries)
}

// scanners are how many tokens scan tries at a time: what is under way is charged when it is answered.
const scanners = 8

// scan tries n tokens, on a few connections, and sees that none leads anywhere.
func (s *stack) scan(n int) {
	const clients = scanners
	var trying sync.WaitGroup
	for range clients {
		trying.Go(func() {
			counts, err := tryTokens(s, n/clients)
			if err != nil {
				s.t.Error(err)
			}
			delete(counts, http.StatusGone)
			delete(counts, http.StatusTooManyRequests)
			if len(counts) > 0 {
				s.t.Errorf("tokens that lead nowhere get %v", counts)
			}
		})
	}
	trying.Wait()
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what pools hold
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// tryTokens tries n tokens on one connection, many at a time, and counts the answers.
func tryTokens(s *stack, n int) (map[int]int, error) {
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	from := bufio.NewReader(conn)
	statuses := map[int]int{}
	for n > 0 {
		some := min(n, 50)
		var requests strings.Builder
		for range some {
			var token [32]byte
			_, _ = rand.Read(token[:])
			fmt.Fprintf(&requests, "GET /%s/ HTTP/1.1\r\nHost: %s\r\n\r\n", base64.RawURLEncoding.EncodeToString(token[:]), s.cluster)
		}
		if _, err := io.WriteString(conn, requests.String()); err != nil {
			return statuses, err
		}
		n -= some
		for some > 0 { // by the lines of their statuses: reading all of it costs more than answering
			line, err := from.ReadString('\n')
			if err != nil {
				return statuses, err
			}
			if status, ok := strings.CutPrefix(line, "HTTP/1.1 "); ok {
				code, _ := strconv.Atoi(status[:3])
				statuses[code]++
				some--
			}
		}
	}
	return statuses, nil
}

// A Host that is not the session's own is refused, whatever it is written like, and the
// backend hears nothing (section 8: the Host must be the cluster or subdomain.cluster).
func TestE2EHostMustMatch(t *testing.T) {
	t.Parallel()
	s := newStack(t, nil)
	var reached atomic.Int64
	address := httpBackend(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			reached.Add(1)
		}
	})
	plain := s.leads(address)
	sub := "/" + s.connect(messages.ConnectRequest{SpawnConfig: &messages.SpawnConfig{
		Executable: fake.Script{Address: address}.Executable(), Subdomain: "one",
	}}).Token + "/"
	host, port, _ := net.SplitHostPort(s.cluster)
	served := int64(0)
	for _, c := range []struct {
		path, host string
		status     int
	}{
		{plain, s.cluster, 200},
		{plain, strings.ToUpper(s.cluster), 200},
		{plain, "one." + s.cluster, 403},
		{plain, host, 403},
		{plain, host + ":1", 403},
		{plain, host + ":" + port + "0", 403},
		{plain, s.cluster + ".evil.test", 403},
		{plain, "evil.test:" + port, 403},
		{plain, "localhost:" + port, 403},
		{plain, "[::1]:" + port, 403},
		{plain, "", 403},
		{sub, "one." + s.cluster, 200},
		{sub, "ONE." + s.cluster, 200},
		{sub, s.cluster, 403},
		{sub, "two." + s.cluster, 403},
		{sub, "one.one." + s.cluster, 403},
		{sub, "." + s.cluster, 403},
		{sub, "one-" + s.cluster, 403},
	} {
		got := s.send("GET " + c.path + " HTTP/1.1\r\nHost: " + c.host + "\r\nX-Forwarded-Host: " + s.cluster + "\r\nConnection: close\r\n\r\n")
		if c.status == http.StatusOK {
			served++
		}
		if got.status != c.status && (c.status == http.StatusOK || got.status != http.StatusBadRequest) {
			t.Errorf("%q gets %d, want %d", c.host, got.status, c.status)
		}
	}
	if n := reached.Load(); n != served {
		t.Errorf("the backend was reached %d times, want %d", n, served)
	}
}

// What a backend reads in x-verified-* comes from the worker, however a client writes it:
// each name once, with the worker's value (section 8). The worker's own are there, also
// when the client declares them a matter of this connection only.
func TestE2EVerifiedHeaders(t *testing.T) {
	t.Parallel()
	s := newStack(t, nil)
	backend := newRawBackend(t, func(c *rawConn, head string) {
		if strings.Contains(head, "chunked") {
			_ = skipChunks(c)
		}
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi")
	})
	resp := s.connect(messages.ConnectRequest{
		User: "ada", Auth: []byte(`{"role":"guest"}`),
		SpawnConfig: &messages.SpawnConfig{Executable: fake.Script{Address: backend.address}.Executable()},
	})
	path := "/" + resp.Token + "/"
	want := map[string]string{
		"x-verified-username": "ada", "x-verified-user-data": `{"role":"guest"}`, "x-verified-path": path,
		"x-verified-backend": resp.BackendID, "x-verified-secret": resp.SecretToken,
	}
	forged := func(name string) string { return name + ": root\r\n" }
	for name, rest := range map[string]string{
		"nothing":            "\r\n",
		"as they are":        forged("x-verified-username") + forged("x-verified-secret") + forged("x-verified-role") + "\r\n",
		"in capitals":        forged("X-VERIFIED-USERNAME") + forged("X-VERIFIED-PATH") + "\r\n",
		"in odd casing":      forged("x-VeRiFiEd-uSeRnAmE") + forged("X-verified-User-data") + "\r\n",
		"with underscores":   forged("x_verified_username") + forged("X_VERIFIED_USER_DATA") + forged("x-verified_username") + forged("x_verified-secret") + "\r\n",
		"with dots":          forged("X.Verified.Username") + forged("x!verified~secret") + forged("X'Verified|Role") + "\r\n",
		"again and again":    strings.Repeat(forged("X-Verified-Username"), 50) + "\r\n",
		"empty":              "X-Verified-Username:\r\nX-Verified-Backend: \r\n\r\n",
		"listed as hop":      "Connection: close, X-Verified-Username, x-verified-secret, x-verified-path, X-Verified-Backend, x-verified-user-data\r\n\r\n",
		"listed and sent":    "Connection: X-Verified-Username\r\n" + forged("x-verified-username") + "\r\n",
		"with other headers": "X-Verified: root\r\nVerified-Username: root\r\n\r\n",
		"announced trailers": "Transfer-Encoding: chunked\r\nTrailer: X-Verified-Username, x_verified_secret\r\n\r\n2\r\nhi\r\n0\r\n" +
			forged("X-Verified-Username") + forged("x_verified_secret") + "\r\n",
		"trailers":             "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n" + forged("x-verified-username") + forged("X-VERIFIED-BACKEND") + "\r\n",
		"in a header's value":  "X-A: x\r\n\tX-Verified-Username: root\r\n\r\n",
		"among the extensions": "Transfer-Encoding: chunked\r\n\r\n2;X-Verified-Username: root\r\nhi\r\n0\r\n\r\n",
		"with an upgrade":      "Connection: Upgrade, X-Verified-Username\r\nUpgrade: websocket\r\n" + forged("X-Verified-Username") + "\r\n",
	} {
		got := s.send("POST " + path + " HTTP/1.1\r\nHost: " + s.cluster + "\r\n" + rest)
		conns := backend.took()
		if got.status != http.StatusOK || len(conns) != 1 {
			t.Errorf("%s: status %d, %d connections to the backend", name, got.status, len(conns))
			continue
		}
		<-conns[0].done
		seen := map[string][]string{}
		received := conns[0].received()
		for line := range strings.Lines(received) {
			header, value, ok := strings.Cut(strings.TrimRight(line, "\r\n"), ":")
			if plain := asCGI(header); ok && strings.HasPrefix(plain, "x-verified-") {
				seen[plain] = append(seen[plain], strings.TrimSpace(value))
			}
		}
		for header, value := range want {
			if len(seen[header]) != 1 || seen[header][0] != value {
				t.Errorf("%s: the backend reads %s as %q, want %q", name, header, seen[header], value)
			}
			delete(seen, header)
		}
		if len(seen) > 0 {
			t.Errorf("%s: the backend reads %v as well", name, seen)
		}
	}
	for _, line := range []string{"X-Verified-Username : root", "X-Verified-Username\t: root", "X-Verified-Username\x00: root", " X-Verified-Username: root", "X-Verified-Username\r: root"} {
		got := s.send("GET " + path + " HTTP/1.1\r\n" + line + "\r\nHost: " + s.cluster + "\r\nConnection: close\r\n\r\n")
		if conns := backend.took(); got.status < 400 || len(conns) > 0 {
			t.Errorf("%s gets %d, and %d connections to the backend", strconv.Quote(line), got.status, len(conns))
		}
	}
}

// asCGI folds a field's name as the most careless backend does.
func asCGI(name string) string {
	return strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
			return c
		}
		return '-'
	}, strings.ToLower(name))
}
