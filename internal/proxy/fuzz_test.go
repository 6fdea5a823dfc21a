package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

const (
	// fuzzUser is who the worker says that the user is.
	fuzzUser = "ada"
	// fuzzMost is the most that is sent in one go.
	fuzzMost = 64 << 10
	// fuzzAllocates is what a conversation may cost in memory, and how often its own length.
	fuzzAllocates, fuzzTimes = 8 << 20, 64
)

// FuzzRequests: whatever a client sends, the proxy does not panic and does not hang; every
// request that the backend sees is one that the client sent, in order, with its body, in
// one framing that no reader can take for another, and vouched for by the worker only;
// every answer is the client's once; and none of it takes memory without bound. In what is
// sent {T} is a token, {S} a static one and {H} the host.
func FuzzRequests(f *testing.F) {
	var panicked atomic.Pointer[string]
	w := newWorld(f, func(cfg *Config) {
		cfg.LimitHeads(usualWaits.head) // what is incomplete is to end
		cfg.Log = slog.New(slog.NewTextHandler(panics{&panicked}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	b := &judge{}
	address := converse(f, b.serve)
	dynamic, static := token("a"), messages.StaticTokenPrefix+token("s")
	for _, tok := range []string{dynamic, static} {
		rt := ready("be-a", address)
		rt.User = fuzzUser
		w.worker.route(tok, rt)
	}
	over := make(chan struct{})
	f.Cleanup(func() { close(over) })
	go func() { // nobody looks at what the worker was asked
		for {
			select {
			case <-w.worker.asked:
			case <-over:
				return
			}
		}
	}()
	fill := strings.NewReplacer("{T}", dynamic, "{S}", static, "{H}", cluster)

	f.Fuzz(func(t *testing.T, text string) {
		sent := fill.Replace(text)
		if len(sent) > fuzzMost {
			return
		}
		b.begin()
		before := allocated()
		answers := w.converse(t, sent)
		testkit.Eventually(t, "the proxy to be done with it", func() bool { return w.inside() == 0 })
		w.proxy.upstream.sweep(time.Now().Add(time.Hour)) // so that what is left over is seen
		seen, problems := b.end(t)
		if grown := allocated() - before; !testkit.RaceDetector && grown > fuzzAllocates+fuzzTimes*uint64(len(sent)) {
			t.Errorf("I8: %d bytes sent took %d bytes of memory", len(sent), grown)
		}
		if text := panicked.Swap(nil); text != nil {
			t.Errorf("a panic: %s", *text)
		}
		for _, problem := range problems {
			t.Errorf("the backend is sent %s", problem)
		}
		agree(t, requestsIn(sent), seen)
		last := 0
		for _, number := range answers {
			if number <= last || number > len(seen) {
				t.Errorf("answer %d of %d follows answer %d", number, len(seen), last)
			}
			last = number
		}
		if t.Failed() {
			t.Logf("sent %q", sent)
		}
	})
}

// panics notes a line of the log that tells of one.
type panics struct{ seen *atomic.Pointer[string] }

func (p panics) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte("panic")) {
		p.seen.CompareAndSwap(nil, new(string(line)))
	}
	return len(line), nil
}

func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

// said is a request as a reader understands it.
type said struct {
	method, uri, body string
	path              string // as it is before the token is taken off
	head              string
	whole             bool // to the end of its body
}

// requestsIn are the requests in what a client sends, as a lenient reader finds them.
func requestsIn(sent string) (list []said) {
	from := bufio.NewReader(strings.NewReader(sent))
	method := ""
	for {
		// As net/http has it: browsers were known to end a POST with an empty line.
		if next, _ := from.Peek(4); method == http.MethodPost {
			_, _ = from.Discard(len(next) - len(bytes.TrimLeft(next, "\r\n")))
		}
		r, err := http.ReadRequest(from)
		if err != nil {
			return list
		}
		body, err := io.ReadAll(r.Body)
		s := said{method: r.Method, body: string(body), whole: err == nil}
		if t, ok := targetOf(r); ok {
			s.uri, s.path = t.rest+t.query, t.whole
			if len(s.path) > longestPath {
				s.path = "" // not said twice
			}
		}
		list = append(list, s)
		if method = r.Method; err != nil {
			return list
		}
	}
}

// converse sends all, reads answers as long as some may come, and gives the numbers that
// the backend put into those that are its own. A complete request is answered, or the
// connection is closed; what is incomplete ends with the connection.
func (w *world) converse(t *testing.T, sent string) (numbers []int) {
	t.Helper()
	conn, err := net.Dial("tcp", w.addr)
	must(t, err)
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(testkit.Patience))
	var sending sync.WaitGroup
	defer sending.Wait()
	sending.Go(func() { _, _ = io.WriteString(conn, sent) }) // the proxy may close before it has all
	wanted := 0
	list := requestsIn(sent)
	for _, r := range list {
		if r.whole {
			wanted++
		}
	}
	from := bufio.NewReader(conn)
	for n := 0; ; n++ {
		if n == wanted {
			_ = conn.(*net.TCPConn).CloseWrite()
		}
		asked := &http.Request{Method: http.MethodGet}
		if n < len(list) {
			asked.Method = list[n].method
		}
		resp, err := http.ReadResponse(from, asked)
		for err == nil && resp.StatusCode < 200 {
			resp, err = http.ReadResponse(from, asked)
		}
		var late net.Error
		switch {
		case errors.As(err, &late) && late.Timeout():
			t.Fatalf("it hangs: %d of %d requests are answered", n, wanted)
		case err != nil:
			return numbers // closed; what it is that was closed on says agree
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			return numbers
		}
		number := 0
		if _, err := fmt.Sscanf(string(body)+resp.Header.Get("Number"), "answer %d", &number); err == nil {
			numbers = append(numbers, number)
		}
	}
}

// agree: what the backend has seen are requests that were sent, in order.
func agree(t *testing.T, sent, seen []said) {
	t.Helper()
	for _, s := range seen {
		same := func(of said) bool {
			return of.method == s.method && of.uri == s.uri && of.path == s.path && (of.body == s.body || !s.whole && strings.HasPrefix(of.body, s.body))
		}
		for len(sent) > 0 && !same(sent[0]) {
			sent = sent[1:]
		}
		if len(sent) == 0 {
			t.Errorf("the backend sees a request that was not sent: %q, body %q", s.head, s.body)
			return
		}
		sent = sent[1:]
	}
}

// judge is a backend that reads by the letter and answers every request with its number.
type judge struct {
	mu       sync.Mutex
	seen     []said
	problems []string
	open     int
}

func (b *judge) begin() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seen, b.problems = nil, nil
}

// end waits until its connections are closed.
func (b *judge) end(t *testing.T) ([]said, []string) {
	t.Helper()
	testkit.Eventually(t, "connections to the backend to be closed", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.open == 0
	})
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.seen, b.problems
}

func (b *judge) serve(c net.Conn, in *bufio.Reader) {
	b.mu.Lock()
	b.open++
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		b.open--
		b.mu.Unlock()
	}()
	for {
		var raw bytes.Buffer
		head := readHead(bufio.NewReaderSize(io.TeeReader(oneByOne{in}, &raw), 16))
		if len(head) == 0 {
			if raw.Len() > 0 {
				b.object("something that is no request: %q", raw.String())
			}
			return
		}
		s := said{head: raw.String()}
		for _, problem := range lawful(s.head) {
			b.object("%s: %q", problem, s.head)
		}
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(s.head)))
		if err != nil {
			b.object("what net/http does not read: %v: %q", err, s.head)
			return
		}
		s.method, s.uri, s.path = r.Method, r.RequestURI, r.Header.Get(headerPath)
		if strings.EqualFold(r.Header.Get("Expect"), "100-continue") {
			_, _ = io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
		}
		s.body, s.whole = b.body(r, in)
		b.mu.Lock()
		b.seen = append(b.seen, s)
		number := len(b.seen)
		b.mu.Unlock()
		if !s.whole {
			return
		}
		answer := fmt.Sprintf("answer %d", number)
		_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n", len(answer))
		if s.method == http.MethodHead {
			_, _ = fmt.Fprintf(c, "Number: %s\r\n\r\n", answer)
			continue
		}
		_, _ = fmt.Fprintf(c, "\r\n%s", answer)
	}
}

// body reads it by the letter, trailers included.
func (b *judge) body(r *http.Request, in *bufio.Reader) (body string, whole bool) {
	if len(r.TransferEncoding) == 0 {
		data, err := io.ReadAll(io.LimitReader(in, max(r.ContentLength, 0)))
		return string(data), err == nil && int64(len(data)) == max(r.ContentLength, 0)
	}
	var text strings.Builder
	for {
		var size int64
		line, err := in.ReadString('\n')
		if err != nil {
			return text.String(), false
		}
		if !chunkLine.MatchString(line) {
			b.object("the chunk length %q", line)
			return text.String(), false
		}
		if _, err := fmt.Sscanf(line, "%x", &size); err != nil || size == 0 {
			break
		}
		if _, err := io.CopyN(&text, in, size); err != nil {
			return text.String(), false
		}
		end := make([]byte, 2)
		if _, err := io.ReadFull(in, end); err != nil || string(end) != "\r\n" {
			return text.String(), false
		}
	}
	for {
		line, err := in.ReadString('\n')
		if err != nil || line == "\r\n" {
			return text.String(), err == nil
		}
		m := fieldLine.FindStringSubmatch(line)
		if m == nil || isVerified(m[1]) || framing[strings.ToLower(m[1])] || headOnly[strings.ToLower(m[1])] {
			b.object("the trailer %q", line)
		}
	}
}

func (b *judge) object(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.problems = append(b.problems, fmt.Sprintf(format, args...))
}

// oneByOne has a reader of its own take no more than it needs.
type oneByOne struct{ from io.Reader }

func (o oneByOne) Read(p []byte) (int, error) { return o.from.Read(p[:min(len(p), 1)]) }

var (
	startLine = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+ /[^\x00-\x20\x7f]* HTTP/1\\.1\r\n$")
	fieldLine = regexp.MustCompile("^([A-Za-z0-9!#$%&'*+.^_`|~-]+): ((?s:[^\x00-\x08\x0a-\x1f\x7f]*))\r\n$")
	chunkLine = regexp.MustCompile("^[0-9a-f]{1,8}\r\n$")
	headOnly  = map[string]bool{"authorization": true, "cookie": true}
	framing   = map[string]bool{"host": true, "content-length": true, "transfer-encoding": true, "connection": true, "upgrade": true}
)

// lawful says what in a request's head another reader could understand in another way, or
// that is not for the client to say.
func lawful(head string) (problems []string) {
	lines := strings.SplitAfter(strings.TrimSuffix(head, "\r\n"), "\n")
	if !startLine.MatchString(lines[0]) {
		problems = append(problems, "an odd request line")
	}
	count, verified := map[string]int{}, map[string]string{}
	for _, line := range lines[1 : len(lines)-1] {
		m := fieldLine.FindStringSubmatch(line)
		if m == nil {
			problems = append(problems, fmt.Sprintf("an odd field %q", line))
			continue
		}
		name := asCGI(m[1])
		if name == strings.ToLower(m[1]) {
			count[name]++
		}
		if strings.HasPrefix(name, "x-verified-") {
			count["verified "+name]++
			verified[m[1]] = m[2]
		}
	}
	for name := range framing {
		if count[name] > 1 {
			problems = append(problems, fmt.Sprintf("%d of %s", count[name], name))
		}
	}
	if count["host"] != 1 || count["content-length"]+count["transfer-encoding"] > 1 {
		problems = append(problems, "no Host, or two lengths")
	}
	if len(verified) != 5 || verified[headerUsername] != fuzzUser || verified[headerBackend] != "be-a" {
		problems = append(problems, fmt.Sprintf("verified fields that the worker did not give: %q", verified))
	}
	for name, n := range count {
		if strings.HasPrefix(name, "verified ") && n > 1 {
			problems = append(problems, fmt.Sprintf("%d times %s", n, name))
		}
	}
	return problems
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
