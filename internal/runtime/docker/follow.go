package docker

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/client"

	"github.com/jetway-project/jetway/internal/pause"
	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/output"
)

// overlap is what is read of the log once more, to find the place in it.
const overlap = 2 * time.Second

// follower passes on what a container writes, from the engine's log. It goes on where
// it was when the engine was away, or another agent read before it.
type follower struct {
	i *Instance
	place
	// again says of a stream that what comes first may have been passed on before.
	again [2]bool
	skip  [2]int64 // so many entries of the moment seen, then
	noted place
	notes *os.File // nil: the place is not noted

	mu     sync.Mutex // guards lines
	lines  [2]*output.Lines
	notice *time.Timer
}

// place is where a follower is.
type place struct {
	// Seen is up to when each stream was passed on, by the engine's clock, in ns.
	// Same is how many entries of that moment were: Podman's moments are seconds.
	Seen, Same [2]int64
}

// resume is where an earlier agent was with the output of a container. If that is not
// known, what was written until now is left out rather than passed on twice.
func resume(i *Instance) *follower {
	f := &follower{}
	raw, _ := os.ReadFile(i.r.seenFile(i.id))
	if _, err := binary.Decode(raw, binary.LittleEndian, &f.place); err != nil && i.r.config.StateDir == "" {
		now := time.Now().UnixNano()
		f.Seen = [2]int64{now, now}
	}
	return f
}

// seenFile is where is noted how far a container's output was read.
func (r *Runtime) seenFile(id string) string {
	return filepath.Join(r.config.StateDir, "output-"+id)
}

// run follows until the container has ended and its output is read, OutputGrace after
// its end at the latest, or until Close.
func (f *follower) run(i *Instance) {
	f.i = i
	for n, stream := range []runtime.Stream{runtime.Stdout, runtime.Stderr} {
		f.lines[n] = output.New(stream, i.log, i.r.config.LogLines, i.r.config.LogBytes)
	}
	f.notice = time.AfterFunc(time.Hour, f.tell)
	f.notice.Stop()
	f.openNotes()
	f.follow(i.following)
	i.unfollow()
	f.close()
}

// follow reads the log until its end, from the beginning or from where it was.
func (f *follower) follow(ctx context.Context) {
	tries := pause.Growing(50*time.Millisecond, 5*time.Second)
	for {
		ending := f.i.hasEnded()
		before := f.Seen
		reading := ctx
		if !ending {
			reading = f.i.running
		}
		err := f.read(reading, !ending)
		switch {
		case ctx.Err() != nil, errdefs.IsNotFound(err):
			return
		case errdefs.IsNotImplemented(err), errdefs.IsInvalidArgument(err):
			f.say(fmt.Sprintf("the output cannot be followed: %v", plain(err)))
			return
		case err == nil && ending:
			return // it was read to its end
		}
		if f.Seen != before {
			tries.Reset()
		}
		wait := time.NewTimer(tries.NextBackOff())
		if f.i.running.Err() != nil {
			wait.Stop() // its end is told in a moment
		}
		select {
		case <-wait.C:
		case <-f.i.ended: // what is left now is all
		case <-ctx.Done():
		}
		wait.Stop()
	}
}

// read reads the log once: to its end, or if it is to go on, until the container has ended or the
// connection has. From a container's end on Podman leaves out lines of a log that it follows, and then passes on a later
// one; so what follows does not go on past the end.
func (f *follower) read(ctx context.Context, goOn bool) error {
	options := client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true, Timestamps: true, Follow: goOn}
	// The streams are written to the log in the order of their times, nearly.
	if since := max(f.Seen[0], f.Seen[1]) - overlap.Nanoseconds(); since > 0 {
		options.Since = fmt.Sprintf("%d.%09d", since/1e9, since%1e9)
	}
	for n, at := range f.Seen {
		f.again[n], f.skip[n] = at > 0, f.Same[n]
	}
	log, err := f.i.r.engine.ContainerLogs(ctx, f.i.id, options)
	if err != nil {
		return err
	}
	defer log.Close()
	_, err = stdcopy.StdCopy(stream{f, 0}, stream{f, 1}, noting{f, log})
	return err
}

// stream takes the entries of one stream, each with one Write.
type stream struct {
	f *follower
	n int
}

// Write takes `2006-01-02T15:04:05.000000000Z text`.
func (s stream) Write(entry []byte) (int, error) {
	f := s.f
	stamp, text, ok := bytes.Cut(entry, []byte{' '})
	at, err := time.Parse(time.RFC3339Nano, string(stamp))
	if !ok || err != nil {
		return 0, fmt.Errorf("an entry of the log begins with %.40q", entry)
	}
	moment := at.UnixNano()
	if f.again[s.n] && moment < f.Seen[s.n] {
		return len(entry), nil
	}
	if f.again[s.n] && moment == f.Seen[s.n] && f.skip[s.n] > 0 {
		f.skip[s.n]--
		return len(entry), nil
	}
	// Only what comes first can be old: clocks are set back, too.
	f.again[s.n] = false
	if moment != f.Seen[s.n] {
		f.Seen[s.n], f.Same[s.n] = moment, 0
	}
	f.Same[s.n]++
	f.mu.Lock()
	defer f.mu.Unlock()
	_, _ = f.lines[s.n].Write(text)
	if due := f.lines[s.n].NoticeAt(); !due.IsZero() {
		f.notice.Reset(time.Until(due))
	}
	return len(entry), nil
}

// noting notes how far was read, each time before more is read.
type noting struct {
	f   *follower
	log io.Reader
}

// Read reads from the log.
func (n noting) Read(p []byte) (int, error) {
	n.f.note()
	return n.log.Read(p)
}

func (f *follower) openNotes() {
	if f.i.r.config.StateDir == "" {
		return
	}
	notes, err := os.OpenFile(f.i.r.seenFile(f.i.id), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		f.i.r.config.Log.Warn("cannot note how far output is read", "backend_id", f.i.backendID, "err", err)
		return
	}
	f.notes = notes
}

func (f *follower) note() {
	if f.notes == nil || f.place == f.noted {
		return
	}
	// A full disk costs lines passed on twice, after an agent that was killed.
	raw, _ := binary.Append(nil, binary.LittleEndian, f.place)
	_, _ = f.notes.WriteAt(raw, 0)
	f.noted = f.place
}

// tell passes on that lines were dropped, also while the container is silent.
func (f *follower) tell() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, lines := range f.lines {
		lines.Notify(time.Now())
	}
}

func (f *follower) say(text string) {
	if f.i.log != nil {
		f.i.log(runtime.Line{Time: time.Now(), Stream: runtime.Notice, Text: text})
	}
}

// close passes on what is left: of a container that has ended also a last line without
// an end. Of one that goes on, nothing is said: the next agent reads on.
func (f *follower) close() {
	f.notice.Stop()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.i.hasEnded() {
		for _, lines := range f.lines {
			lines.End()
		}
	}
	f.note()
	if f.notes == nil {
		return
	}
	_ = f.notes.Close()
	if f.i.hasEnded() {
		if err := os.Remove(f.notes.Name()); err != nil && !errors.Is(err, os.ErrNotExist) {
			f.i.r.config.Log.Warn("cannot remove the note of how far output was read", "backend_id", f.i.backendID, "err", err)
		}
	}
}
