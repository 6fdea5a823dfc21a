package gateway

import (
	"bytes"
	"errors"
	"mime"
	"net/http"
	"os"
	"time"

	"github.com/jetway-project/jetway/messages"
	"github.com/jetway-project/jetway/messages/client"
)

// call is one request on its way.
type call struct {
	g     *Gateway
	w     http.ResponseWriter
	r     *http.Request
	route *route
	who   *who
	body  []byte
	// timeout is how long the asker waits for workers.
	timeout time.Duration
	began   time.Time
	status  int
	// refusal is why it was not granted, "" where it was.
	refusal messages.Kind
	// later says that the call goes on after its handler: it is logged when it ends.
	later bool
}

const (
	maxTimeout  = time.Minute
	waitTimeout = 30 * time.Second
)

// serve is what every route begins and ends with.
func (c *call) serve() {
	c.began = time.Now()
	c.timeout = client.DefaultTimeout
	defer func() {
		if !c.later {
			c.end()
		}
	}()
	rc := http.NewResponseController(c.w)
	if err := c.identify(); err != nil {
		if _, ok := errors.AsType[handledError](err); !ok {
			c.fail(err)
		}
		return
	}
	if err := c.read(rc); err != nil {
		c.fail(err)
		return
	}
	value, err := c.route.serve(c)
	switch _, handled := errors.AsType[handledError](err); {
	case handled:
	case err != nil:
		c.fail(err)
	default:
		c.answer(value)
	}
}

// read reads the body, within bounds of size and time, and what the head says of waiting.
func (c *call) read(rc *http.ResponseController) error {
	if text := c.r.Header.Get(messages.HeaderTimeout); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil || d <= 0 {
			return messages.Errorf(messages.BadRequest, "%s: must be a duration like 10s, not %.40q", messages.HeaderTimeout, text)
		}
		c.timeout = min(max(d, time.Millisecond), maxTimeout)
	}
	if c.r.ContentLength != 0 && c.r.Header.Get("Content-Encoding") != "" {
		return messages.Errorf(NotJSON, "Content-Encoding: bodies are read as they are; send it without")
	}
	if err := c.readBody(); err != nil {
		// What is left of it is neither waited for nor taken for another request.
		c.w.Header().Set("Connection", "close")
		_ = rc.SetReadDeadline(time.Now())
		return err
	}
	// What is read has come within the server's bound. From now on only the client's leaving is waited for.
	_ = rc.SetReadDeadline(time.Time{})
	return nil
}

// roomOfBody is what is kept for a body before any of it has come.
const roomOfBody = 8 << 10

// readBody reads the body.
func (c *call) readBody() error {
	said := c.r.ContentLength
	errLong := messages.Errorf(TooLarge, "the body is longer than %d bytes", messages.MaxPayload)
	switch {
	case said == 0:
		return nil
	case said > messages.MaxPayload:
		return errLong
	}
	body := bytes.NewBuffer(make([]byte, 0, min(max(said, 0), roomOfBody)+bytes.MinRead))
	_, err := body.ReadFrom(http.MaxBytesReader(c.w, c.r.Body, messages.MaxPayload))
	if c.body = body.Bytes(); err == nil {
		return nil
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return errLong
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return messages.Errorf(TooSlow, "the body did not come within %s", c.g.cfg.waits.read)
	}
	return messages.Errorf(messages.BadRequest, "the body cannot be read: %v", err)
}

// isJSON says that a body is declared as JSON. A page of another site can send nothing that is.
func (c *call) isJSON() bool {
	given := c.r.Header.Get("Content-Type")
	if given == "application/json" {
		return true
	}
	media, _, err := mime.ParseMediaType(given)
	return err == nil && media == "application/json"
}

// wantJSON refuses a body of another kind.
func (c *call) wantJSON() error {
	if len(c.body) == 0 || c.isJSON() {
		return nil
	}
	return messages.Errorf(NotJSON, "Content-Type: must be application/json, not %.60q", c.r.Header.Get("Content-Type"))
}

// end counts and logs a call that is over.
func (c *call) end() {
	took := time.Since(c.began)
	c.g.metrics.Answered(c.route.name, c.status, took)
	if c.route.connects {
		c.g.connects.answered(c.refusal)
	}
	if !c.g.cfg.AccessLog {
		return
	}
	name := ""
	if c.who != nil {
		name = c.who.name
	}
	c.g.log.Info("request", "method", c.r.Method, "path", c.r.URL.Path, "status", c.status, "took", took, "token", name, "client", address(c.r))
}
