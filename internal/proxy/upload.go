package proxy

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

// upload is a request's body on its way to the backend, in a goroutine of its own
// because the response may begin before the body has ended.
type upload struct {
	from     io.Reader // the client's
	to       *backendConn
	length   int64       // -1: chunked
	trailer  http.Header // of the client, filled in at the end of its body
	announce []string    // those of it that may be passed on

	// proceed is closed when the body may be read; nil: at once. It is read after patience
	// at the latest.
	proceed  chan struct{}
	patience time.Duration
	// over is closed when the response has ended or failed: nobody wants the rest.
	over chan struct{}
	done chan struct{}

	// taken says that the client's body was read to its end. It is set before the
	// last byte is passed on, so that a backend that answers what it read whole
	// answers after it.
	taken atomic.Bool
	// fault is what went wrong with reading from the client.
	fault atomic.Pointer[error]
	// To be read after done: whether all of it was sent, and how much came.
	sent  bool
	bytes int64
}

// run passes the body on. When reading from the client fails, it closes the
// connection to the backend.
func (u *upload) run() {
	defer close(u.done)
	if !u.allowed() {
		return
	}
	readErr, writeErr := u.pass()
	switch {
	case readErr != nil:
		// The backend must not take what came for all.
		u.fault.Store(&readErr)
		_ = u.to.Close()
	case writeErr != nil:
		// A client that is still sending would not see a response.
		<-u.over
		_, _ = io.Copy(io.Discard, u.from) // ends by its read deadline at the latest
	default:
		u.sent = true
	}
}

// allowed waits for the word that a client with Expect: 100-continue waits for.
func (u *upload) allowed() bool {
	if u.proceed == nil {
		return true
	}
	timer := time.NewTimer(u.patience)
	defer timer.Stop()
	select {
	case <-u.over:
		return false
	case <-u.proceed:
	case <-timer.C:
	}
	return true
}

// Room for what stands around a chunk: its length in hexadecimal digits and the
// ends of two lines.
const (
	chunkBefore = 8
	chunkAfter  = 2
)

func (u *upload) pass() (readErr, writeErr error) {
	buffer := takeBuffer()
	defer giveBuffer(buffer)
	into := buffer[:]
	if u.length < 0 {
		into = buffer[chunkBefore : bufferSize-chunkAfter]
	}
	for left := u.length; left != 0; {
		n, err := u.from.Read(into)
		u.bytes += int64(n)
		if left > 0 {
			left -= int64(n)
		}
		end := errors.Is(err, io.EOF)
		if left == 0 || end {
			u.taken.Store(true)
		}
		if n > 0 {
			out := into[:n]
			if u.length < 0 {
				out = chunk(buffer, n)
			}
			if _, writeErr = u.to.Write(out); writeErr != nil {
				return nil, writeErr
			}
		}
		switch {
		case end && left > 0:
			return io.ErrUnexpectedEOF, nil
		case end:
			left = 0
		case err != nil:
			return err, nil
		}
	}
	if u.length < 0 {
		_, writeErr = u.to.Write(u.lastChunk(buffer[:0]))
	}
	return nil, writeErr
}

// chunk frames the n bytes of b from chunkBefore on.
func chunk(b *[bufferSize]byte, n int) []byte {
	var digits [chunkBefore]byte
	head := append(strconv.AppendInt(digits[:0], int64(n), 16), "\r\n"...)
	from := chunkBefore - len(head)
	copy(b[from:], head)
	to := chunkBefore + n
	to += copy(b[to:], "\r\n")
	return b[from:to]
}

func (u *upload) lastChunk(b []byte) []byte {
	b = append(b, "0\r\n"...)
	for _, name := range u.announce {
		for _, value := range u.trailer[name] {
			b = appendField(b, name, value)
		}
	}
	return append(b, "\r\n"...)
}
