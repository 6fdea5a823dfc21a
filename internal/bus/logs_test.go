package bus_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/internal/testkit/natstest"
	"github.com/jetway-project/jetway/messages"
	"github.com/jetway-project/jetway/messages/client"
)

// writer publishes a backend's lines as its drone does.
type writer struct {
	t       *testing.T
	nc      *nats.Conn
	backend string
	n       int
}

// write publishes the next n lines: numbers, and now and then the same empty line of the
// same moment twice, as a process may write it.
func (w *writer) write(n int) {
	w.t.Helper()
	for range n {
		w.n++
		line := messages.LogLine{Time: time.Now().UTC(), Stream: messages.StreamStdout, Line: strconv.Itoa(w.n)}
		for range 1 + w.n%2 {
			w.publish(line)
		}
	}
	if err := w.nc.FlushTimeout(testkit.Patience); err != nil {
		w.t.Error(err)
	}
}

func (w *writer) publish(line messages.LogLine) {
	w.t.Helper()
	if err := w.nc.Publish(messages.LogSubject(w.backend), messages.Encode(line)); err != nil {
		w.t.Error(err)
	}
}

// wanted are the lines from one number to another as they were written.
func wanted(from, to int) (lines []string) {
	for n := from; n <= to; n++ {
		for range 1 + n%2 {
			lines = append(lines, strconv.Itoa(n))
		}
	}
	return lines
}

// reading runs Lines to its end.
type reading struct {
	t     *testing.T
	ended chan struct{}
	stop  func() // says that the backend has ended
	mu    sync.Mutex
	lines []string
	err   error
	done  chan struct{}
}

func startReading(t *testing.T, nc *nats.Conn, what client.Logs) *reading {
	t.Helper()
	r := &reading{t: t, ended: make(chan struct{}), done: make(chan struct{})}
	what.Ended, r.stop = r.ended, sync.OnceFunc(func() { close(r.ended) })
	ctx, cancel := context.WithTimeout(t.Context(), testkit.Patience)
	t.Cleanup(func() { cancel(); <-r.done })
	go func() {
		defer close(r.done)
		for line, err := range client.New(nc).Logs(ctx, what) {
			r.mu.Lock()
			if err != nil {
				r.err = err
			} else {
				r.lines = append(r.lines, line.Line)
			}
			r.mu.Unlock()
		}
	}()
	return r
}

func (r *reading) got() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.lines)
}

func (r *reading) await(last int) {
	r.t.Helper()
	testkit.Eventually(r.t, fmt.Sprintf("line %d", last), func() bool {
		got := r.got()
		return len(got) > 0 && got[len(got)-1] == strconv.Itoa(last)
	})
}

// end wants what was read to be just that, after the backend has ended.
func (r *reading) end(want []string) {
	r.t.Helper()
	r.stop()
	testkit.Receive(r.t, r.done, "it ends")
	if r.err != nil {
		r.t.Error(r.err)
	}
	if !slices.Equal(r.lines, want) {
		r.t.Errorf("read\n%v\nwant\n%v", r.lines, want)
	}
}

func readAll(t *testing.T, nc *nats.Conn, what client.Logs) (lines []string) {
	t.Helper()
	for line, err := range client.New(nc).Logs(testkit.Context(t), what) {
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line.Line)
	}
	return lines
}

func TestLinesOfTheHistory(t *testing.T) {
	t.Parallel()
	_, nc, _ := withStreams(t)
	w, other := &writer{t: t, nc: nc, backend: "b1"}, &writer{t: t, nc: nc, backend: "b2"}
	if got := readAll(t, nc, client.Logs{Backend: "b1", Tail: -1}); len(got) != 0 {
		t.Errorf("of nothing written it reads %v", got)
	}
	w.write(5)
	other.write(3)
	half := time.Now()
	w.write(5)
	testkit.Eventually(t, "the lines in the stream", func() bool {
		return len(readAll(t, nc, client.Logs{Backend: "b1", Tail: -1})) == len(wanted(1, 10))
	})
	for _, c := range []struct {
		what client.Logs
		want []string
	}{
		{client.Logs{Tail: -1}, wanted(1, 10)},
		{client.Logs{Tail: 3}, []string{"9", "9", "10"}},
		{client.Logs{Tail: 0}, nil},
		{client.Logs{Tail: 1000}, wanted(1, 10)},
		{client.Logs{Tail: -1, Since: half}, wanted(6, 10)},
		{client.Logs{Tail: 3, Since: half}, []string{"9", "9", "10"}},
		{client.Logs{Tail: -1, Since: half.Add(time.Hour)}, nil},
	} {
		c.what.Backend = "b1"
		if got := readAll(t, nc, c.what); !slices.Equal(got, c.want) {
			t.Errorf("%+v: %v, want %v", c.what, got, c.want)
		}
	}
}

// None left out and none twice, wherever in a stream of lines the reader comes in.
func TestLinesWhileTheyAreWritten(t *testing.T) {
	t.Parallel()
	url, nc, js := withStreams(t)
	w := &writer{t: t, nc: nc, backend: "b1"}
	reader := watchConn(t, url)
	w.write(20)
	var readings []*reading
	for range 40 { // fewer in all than the stream keeps
		w.write(2)
		if w.n%10 == 0 {
			readings = append(readings, startReading(t, reader, client.Logs{Backend: "b1", Tail: -1}))
		}
	}
	w.write(1)
	last := w.n
	for _, r := range readings {
		r.await(last)
	}
	w.write(10)
	for _, r := range readings {
		r.await(w.n)
	}
	none := startReading(t, reader, client.Logs{Backend: "b1", Tail: 0})
	few := startReading(t, reader, client.Logs{Backend: "b1", Tail: 2})
	few.await(w.n)
	w.write(5)
	none.await(w.n)
	for _, r := range append(readings, none, few) {
		r.stop() // all at once, for each looks for last lines
	}
	for _, r := range readings {
		r.end(wanted(1, w.n))
	}
	none.end(wanted(w.n-4, w.n))
	few.end(append(wanted(w.n-6, w.n-5)[1:], wanted(w.n-4, w.n)...))
	wantNoConsumers(t, js)
}

// The last lines may come after the end, and some while they are looked for.
func TestLinesEndWhenAllIsShown(t *testing.T) {
	t.Parallel()
	_, nc, _ := withStreams(t)
	w := &writer{t: t, nc: nc, backend: "b1"}
	w.write(3)
	ended := make(chan struct{})
	var got []string
	for line, err := range client.New(nc).Logs(testkit.Context(t), client.Logs{Backend: "b1", Tail: -1, Ended: ended}) {
		if err != nil {
			t.Fatal(err)
		}
		// On the reader's connection: what is written comes to it before it looks on.
		switch got = append(got, line.Line); {
		case len(got) == len(wanted(1, 3)):
			close(ended)
			w.write(2)
		case len(got) == len(wanted(1, 5)):
			w.write(2)
		}
	}
	if want := wanted(1, 7); !slices.Equal(got, want) {
		t.Errorf("read\n%v\nwant\n%v", got, want)
	}
}

// A reader that lost the server goes on with what the stream holds, the same one or another.
func TestLinesAcrossRestartsAndLosses(t *testing.T) {
	t.Parallel()
	srv := natstest.Own(t)
	nc := watchConn(t, srv.URL())
	js := natstest.JetStream(t, nc)
	prepareStreams(t, js)
	w := &writer{t: t, nc: nc, backend: "b1"}
	reader := watchConn(t, srv.URL())
	r := startReading(t, reader, client.Logs{Backend: "b1", Tail: -1})
	w.write(30)
	r.await(30)
	for _, again := range []func(){srv.Restart, srv.Replace, srv.Restart} {
		again()
		awaitServer(t, nc)
		prepareStreams(t, js)
		w.write(15)
		r.await(w.n)
	}
	r.end(wanted(1, w.n))
}

// I8: who reads slowly makes nobody wait, holds what is bounded, and is told what he missed.
func TestI8SlowReaderOfLinesIsToldThatSomeAreMissing(t *testing.T) {
	t.Parallel()
	url, nc, _ := withStreams(t)
	w := &writer{t: t, nc: nc, backend: "b1"}
	reader := watchConn(t, url, nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	w.write(2)
	ended, told, last := make(chan struct{}), false, 0
	for line, err := range client.New(reader).Logs(testkit.Context(t), client.Logs{Backend: "b1", Tail: -1, Ended: ended}) {
		if err != nil {
			t.Fatal(err)
		}
		if line.Stream == messages.StreamDrone {
			told = strings.Contains(line.Line, "missing")
			continue
		}
		n, _ := strconv.Atoi(line.Line)
		if n < last {
			t.Fatalf("%d after %d", n, last)
		}
		if n == 2 && last < 2 {
			w.write(6000) // before any of them is taken
			close(ended)
		}
		last = n
	}
	if !told || last != w.n {
		t.Errorf("told: %v, the last is %d of %d", told, last, w.n)
	}
}

func TestLinesWithoutStreamAndOfBadNames(t *testing.T) {
	t.Parallel()
	nc := watchConn(t, bareServer(t))
	for backend, kind := range map[string]messages.Kind{"b1": messages.Unavailable, "b.*": messages.BadRequest} {
		var last error
		for _, err := range client.New(nc).Logs(testkit.Context(t), client.Logs{Backend: backend, Tail: -1, Ended: make(chan struct{})}) {
			last = err
		}
		if messages.KindOf(last) != kind {
			t.Errorf("%s: %v, want %s", backend, last, kind)
		}
	}
	_, nc, _ = withStreams(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range client.New(nc).Logs(ctx, client.Logs{Backend: "b1", Ended: make(chan struct{})}) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
	}
}
