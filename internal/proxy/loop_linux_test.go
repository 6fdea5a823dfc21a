package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/jetway-project/jetway/internal/testkit"
)

// upgrades is a world with one backend that upgrades whatever comes, and hands the
// connection to the test.
type upgrades struct {
	*world
	token string
	taken chan net.Conn
}

func newUpgrades(t *testing.T, serve func(net.Conn)) *upgrades {
	t.Helper()
	u := &upgrades{world: newWorld(t), token: token("upgrades"), taken: make(chan net.Conn, 1)}
	if serve == nil {
		serve = func(c net.Conn) { u.taken <- c }
	}
	u.leads(u.token, "b-1", func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: bytes\r\n\r\n")
		serve(c)
	})
	return u
}

// open gives the client's end.
func (u *upgrades) open() (net.Conn, error) {
	c, err := net.Dial("tcp", u.addr)
	if err != nil {
		return nil, err
	}
	_, err = io.WriteString(c, "GET /"+u.token+"/ HTTP/1.1\r\nHost: "+cluster+"\r\nConnection: Upgrade\r\nUpgrade: bytes\r\n\r\n")
	if err == nil {
		from := bufio.NewReader(c)
		var resp *http.Response
		if resp, err = http.ReadResponse(from, nil); err == nil && (resp.StatusCode != http.StatusSwitchingProtocols || from.Buffered() > 0) {
			err = fmt.Errorf("%s, and %d bytes", resp.Status, from.Buffered())
		}
	}
	if err != nil {
		_ = c.Close()
	}
	return c, err
}

// carried is how many ways are in the proxy's loops.
func (u *upgrades) carried() (n int) {
	for _, l := range u.proxy.loops {
		l.mu.Lock()
		n += len(l.ways)
		l.mu.Unlock()
	}
	return n
}

// An idle upgraded connection costs no goroutine; one whose reader is slow has two; and all
// of it is given back. Not in parallel: it counts goroutines.
func TestI8LoopsCarryWhatIsIdle(t *testing.T) {
	u := newUpgrades(t, nil)
	var clients, backends []net.Conn
	for range 20 {
		c, err := u.open()
		must(t, err)
		clients, backends = append(clients, c), append(backends, testkit.Receive(t, u.taken, "the backend's end"))
	}
	testkit.Eventually(t, "the loops have both ways of each", func() bool { return u.carried() == 2*len(clients) })
	testkit.Eventually(t, "no goroutine carries any", func() bool { return carriers() == 0 })
	flood := make(chan error, 1)
	const much = 64 << 20
	go func() {
		_, err := io.Copy(backends[0], io.LimitReader(zeros{}, much))
		flood <- err
	}()
	testkit.Eventually(t, "the connection that is slow leaves its loop", func() bool { return u.carried() == 2*len(clients)-2 && carriers() == 2 })
	n, err := io.CopyN(io.Discard, clients[0], much)
	if err != nil || n != much {
		t.Fatalf("%d bytes came: %v", n, err)
	}
	must(t, testkit.Receive(t, flood, "the flood"))
	must(t, closeWrite(clients[1]))
	equal(t, "the backend hears", heardBy(t, backends[1]), "")
	testkit.Eventually(t, "the other way has its goroutine, for the time that it has", func() bool { return u.carried() == 2*len(clients)-4 && carriers() == 3 })
	for _, c := range append(clients, backends...) {
		_ = c.Close()
	}
	testkit.Eventually(t, "nothing is left", func() bool { return u.carried() == 0 && carriers() == 0 && u.inside() == 0 })
}

// narrow makes the buffers between the proxy and the ends of a connection small, where they
// are to be.
func (u *upgrades) narrow(client, backend *end, c, b net.Conn) {
	port := c.LocalAddr().(*net.TCPAddr).Port
	for _, l := range u.proxy.loops {
		l.mu.Lock()
		for fd, w := range l.ways {
			peer, _ := unix.Getpeername(int(fd))
			if to, ok := peer.(*unix.SockaddrInet4); !ok || to.Port != port {
				continue
			}
			for fd, its := range map[int32]*end{fd: client, w.seat.to: backend} {
				if its.Narrow {
					_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, 8<<10)
				}
			}
		}
		l.mu.Unlock()
	}
	for its, conn := range map[*end]net.Conn{client: c, backend: b} {
		if its.Narrow {
			_ = conn.(*net.TCPConn).SetReadBuffer(32 << 10)
		}
	}
}

// heardBy gives what an end hears up to the other's end.
func heardBy(t *testing.T, c net.Conn) string {
	t.Helper()
	must(t, c.SetReadDeadline(time.Now().Add(testkit.Patience)))
	heard, err := io.ReadAll(c)
	must(t, err)
	return string(heard)
}

// carriers counts the goroutines that carry a way, of all proxies of this process.
func carriers() int {
	stacks := make([]byte, 4<<20)
	return bytes.Count(stacks[:runtime.Stack(stacks, true)], []byte("proxy.(*way).run("))
}

// end is how one end of a connection behaves.
type end struct {
	Chunks []int // sizes of what it writes
	Pauses []int // ms, before each
	Late   int   // ms before it reads
	Abrupt bool  // closes all after its last chunk, instead of its own way only
	Narrow bool  // little of what goes to it is under way at once
}

func drawEnd(t *rapid.T, name string) end {
	sizes := rapid.OneOf(rapid.IntRange(1, 200), rapid.IntRange(1, 200), rapid.Just(bufferSize), rapid.IntRange(1, 400<<10))
	e := end{
		Chunks: rapid.SliceOfN(sizes, 0, 12).Draw(t, name+" chunks"),
		Late:   rapid.SampledFrom([]int{0, 0, 0, 5}).Draw(t, name+" reads late"),
		Abrupt: rapid.IntRange(0, 4).Draw(t, name+" is abrupt") == 0,
		Narrow: rapid.Bool().Draw(t, name+" is narrow"),
	}
	e.Pauses = rapid.SliceOfN(rapid.SampledFrom([]int{0, 0, 0, 0, 1, 2}), len(e.Chunks), len(e.Chunks)).Draw(t, name+" pauses")
	return e
}

// said is what an end says in all.
func (e *end) said(seed uint64) []byte {
	total := 0
	for _, n := range e.Chunks {
		total += n
	}
	all := make([]byte, total)
	_, _ = rand.NewChaCha8([32]byte{byte(seed)}).Read(all)
	return all
}

// play lets an end say what it has to, and gives what it hears up to the other's end.
func (e *end) play(c net.Conn, all []byte) (heard []byte, err error) {
	_ = c.SetDeadline(time.Now().Add(testkit.Patience))
	var speaking sync.WaitGroup
	speaking.Go(func() {
		for i, n := range e.Chunks {
			<-time.After(time.Duration(e.Pauses[i]) * time.Millisecond)
			if _, err := c.Write(all[:n]); err != nil {
				return // the other is abrupt
			}
			all = all[n:]
		}
		if e.Abrupt {
			_ = c.Close()
		} else {
			_ = closeWrite(c)
		}
	})
	<-time.After(time.Duration(e.Late) * time.Millisecond)
	heard, err = io.ReadAll(c)
	speaking.Wait()
	_ = c.Close()
	return heard, err
}

// The demand that any upgrade passes unchanged: what one end says the other hears,
// whole and in order, up to its end, however both behave. Who is cut off by an abrupt end
// hears a beginning of it, and an end too.
func TestUpgradedConnectionsPassUnchanged(t *testing.T) {
	t.Parallel()
	u := newUpgrades(t, nil)
	rapid.Check(t, func(t *rapid.T) {
		client, backend := drawEnd(t, "client"), drawEnd(t, "backend")
		c, err := u.open()
		if err != nil {
			t.Fatal(err)
		}
		b := <-u.taken
		testkit.Eventually(u.t, "a loop has it", func() bool { return u.carried() == 2 })
		u.narrow(&client, &backend, c, b)
		fromClient, fromBackend := client.said(1), backend.said(2)
		var atBackend, atClient []byte
		var errBackend, errClient error
		var playing sync.WaitGroup
		playing.Go(func() { atBackend, errBackend = backend.play(b, fromBackend) })
		playing.Go(func() { atClient, errClient = client.play(c, fromClient) })
		playing.Wait()
		check := func(who string, heard, said []byte, err error) {
			switch timeout, ok := errors.AsType[net.Error](err); {
			case ok && timeout.Timeout():
				t.Errorf("%s hears no end", who)
			case client.Abrupt || backend.Abrupt:
				if !bytes.HasPrefix(said, heard) {
					t.Errorf("%s hears what was not said, in %d bytes", who, len(heard))
				}
			case err != nil || !bytes.Equal(heard, said):
				t.Errorf("%s hears %d bytes of %d: %v", who, len(heard), len(said), err)
			}
		}
		check("the backend", atBackend, fromClient, errBackend)
		check("the client", atClient, fromBackend, errClient)
	})
	testkit.Eventually(t, "nothing is left", func() bool { return u.carried() == 0 && u.inside() == 0 })
}

// Connections come and go, are cut and fail, all at once, so that the numbers of their
// sockets are soon others': nobody ever hears what is another's.
func TestUpgradedConnectionsNeverMix(t *testing.T) {
	t.Parallel()
	u := newUpgrades(t, func(c net.Conn) {
		go func() {
			_, _ = io.Copy(c, c)
			_ = c.Close()
		}()
	})
	stop := make(chan struct{})
	var cutting sync.WaitGroup
	cutting.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(2 * time.Millisecond):
				if open := u.proxy.activity.allPassages(); len(open) > 0 {
					open[rand.IntN(len(open))].abort()
				}
			}
		}
	})
	var lives sync.WaitGroup
	for n := range 16 {
		lives.Go(func() {
			for life := range testkit.Sized(t, 30, 100) {
				c, err := u.open()
				if err != nil {
					continue // it was cut
				}
				_ = c.SetDeadline(time.Now().Add(testkit.Patience))
				from := bufio.NewReader(c)
				for turn := range 1 + rand.IntN(10) {
					line := fmt.Sprintf("%d of life %d of %d\n", turn, life, n)
					if _, err := io.WriteString(c, line); err != nil {
						break
					}
					heard, err := from.ReadString('\n')
					if err != nil {
						break
					}
					if heard != line {
						t.Errorf("said %q, heard %q", line, heard)
					}
				}
				_ = c.Close()
			}
		})
	}
	lives.Wait()
	close(stop)
	cutting.Wait()
	testkit.Eventually(t, "nothing is left", func() bool { return u.carried() == 0 && u.inside() == 0 })
}
