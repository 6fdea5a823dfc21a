package proxy

import (
	"errors"
	"io"
	"net/http"
)

// relayInterim passes on a 1xx response. Clients of HTTP/1.0 know none.
func (x *exchange) relayInterim() {
	if !x.r.ProtoAtLeast(1, 1) {
		return
	}
	h := x.w.Header()
	copyFields(h, x.resp.Header)
	x.w.WriteHeader(x.resp.StatusCode)
	clear(h)
}

// copyFields copies what is not about one connection only.
func copyFields(to, from http.Header) {
	listed := from["Connection"]
	for name, values := range from {
		if !isHop(name) && !lists(listed, name) {
			to[name] = values
		}
	}
}

// relay passes the response on. The error is one of reading from the backend or
// writing to the client.
func (x *exchange) relay() error {
	x.relayHead()
	if err := x.relayBody(); err != nil {
		return err
	}
	x.relayTrailer()
	if x.settle() && !x.resp.Close && x.conn.in.Buffered() == 0 && x.ps.release() {
		x.p.upstream.put(x.conn)
	} else {
		_ = x.conn.Close()
	}
	return nil
}

func (x *exchange) relayHead() {
	h := x.w.Header()
	x.out.answerFields(h, x.resp.Header)
	if h["Content-Type"] == nil {
		h["Content-Type"] = nil // else net/http guesses one
	}
	if len(x.resp.Trailer) > 0 {
		x.announced = make(map[string]bool, len(x.resp.Trailer))
		for name := range x.resp.Trailer {
			x.announced[name] = true
			h.Add("Trailer", name)
		}
	}
	x.closeAfter()
	x.w.WriteHeader(x.resp.StatusCode)
	x.answered()
}

// relayBody copies what comes as it comes: it flushes whenever the next read
// might have to wait.
func (x *exchange) relayBody() error {
	if !hasBody(x.r.Method, x.resp) {
		return nil
	}
	defer x.dropBuffer()
	if n := x.resp.ContentLength; n > 0 {
		return x.relayLength(n)
	}
	return x.relayStream()
}

func hasBody(method string, resp *http.Response) bool {
	return method != http.MethodHead && resp.StatusCode != http.StatusNoContent &&
		resp.StatusCode != http.StatusNotModified && resp.ContentLength != 0
}

// relayLength copies a body of n bytes.
func (x *exchange) relayLength(n int64) error {
	in := x.conn.in
	for n > 0 {
		if in.Buffered() == 0 {
			return x.relayRest(n)
		}
		some, err := in.Peek(int(min(n, int64(in.Buffered()))))
		if err != nil {
			return err
		}
		if _, err := x.w.Write(some); err != nil {
			return err
		}
		_, _ = in.Discard(len(some))
		x.v.sent += int64(len(some))
		n -= int64(len(some))
	}
	return nil
}

// relayRest copies n bytes straight from the connection, of which nothing is buffered.
func (x *exchange) relayRest(n int64) error {
	for n > 0 {
		got, err := x.relaySome(x.conn.Conn, n)
		n -= int64(got)
		if n > 0 && err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// relayStream copies a body whose length only its end tells.
func (x *exchange) relayStream() error {
	for {
		_, err := x.relaySome(x.resp.Body, bufferSize)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// relaySome copies once, at most n bytes. It holds a buffer only while bytes flow.
func (x *exchange) relaySome(from io.Reader, n int64) (int, error) {
	if x.conn.silent() {
		x.dropBuffer()
		if err := x.ps.control.Flush(); err != nil {
			return 0, err
		}
		x.conn.wait()
	}
	if x.buffer == nil {
		x.buffer = takeFor(n)
	}
	got, err := from.Read(x.buffer[:min(n, int64(len(x.buffer)))])
	if got > 0 {
		x.p.activity.passed(x.ps)
		if _, werr := x.w.Write(x.buffer[:got]); werr != nil {
			return got, werr
		}
		x.v.sent += int64(got)
	}
	return got, err
}

func (x *exchange) dropBuffer() {
	if x.buffer != nil {
		giveBack(x.buffer)
		x.buffer = nil
	}
}

// relayTrailer passes on what came after the body.
func (x *exchange) relayTrailer() {
	h := x.w.Header()
	for name, values := range x.resp.Trailer {
		switch {
		case x.announced[name]:
			h[name] = values
		case !isHop(name):
			_ = x.ps.control.Flush() // else net/http gives a short response a length, and no trailers
			h[http.TrailerPrefix+name] = values
		}
	}
}
