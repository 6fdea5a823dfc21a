package socket

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/jetway-project/jetway/internal/runtime"
)

// Bounds of what a server may do to the agent.
const (
	askTimeout = 10 * time.Second
	// maxAnswer has room for as many backends as a drone can have; maxLine for a line of output, escaped.
	maxAnswer = 8 << 20
	maxLine   = 128 << 10
	// maxSaid is how much of an error the server gives is read.
	maxSaid = 16 << 10
)

// client speaks to the server. Each request has a connection of its own: what becomes of one does
// not touch another, and none is stale after the server was started anew.
type client struct {
	path string
	http *http.Client
}

func newClient(path string) *client {
	return &client{path: path, http: &http.Client{
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "unix", path)
			},
			DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// refusal is what the server answers instead: an error of its own, in its own words.
type refusal struct {
	status int
	text   string
}

func (r *refusal) Error() string { return r.text }

// final says that the server has understood a request, and does and has done nothing of it.
func final(err error) bool {
	_, ok := errors.AsType[*refusal](err)
	return ok
}

// failed says of an error whose it is.
func (c *client) failed(ctx context.Context, what string, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return fmt.Errorf("the runtime at %s: %s: %w", c.path, what, err)
}

// send sends a request and gives the answer, whose body the caller reads, within bounds, and closes.
func (c *client) send(ctx context.Context, what string, request any) (*http.Response, error) {
	body, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://runtime/v1/"+what, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		if inner := errors.Unwrap(err); inner != nil {
			err = inner // without the URL, which says nothing
		}
		return nil, c.failed(ctx, what, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	said, _ := io.ReadAll(io.LimitReader(resp.Body, maxSaid))
	var answer struct {
		Error string `json:"error"`
	}
	switch err := json.Unmarshal(said, &answer); {
	case err != nil || answer.Error == "":
		return nil, c.failed(ctx, what, fmt.Errorf("it answers %s, without {\"error\": …}: %.200q", resp.Status, said))
	case resp.StatusCode >= 500 && resp.StatusCode != http.StatusNotImplemented:
		return nil, c.failed(ctx, what, fmt.Errorf("it answers %s: %s", resp.Status, answer.Error))
	}
	return nil, &refusal{resp.StatusCode, answer.Error}
}

// ask sends a request and reads its answer into a struct.
func (c *client) ask(ctx context.Context, what string, request, answer any) error {
	resp, err := c.send(ctx, what, request)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		err = fmt.Errorf("its answer broke off: %w", err)
	case len(raw) > maxAnswer:
		err = fmt.Errorf("its answer is longer than %d bytes", maxAnswer)
	default:
		if err = json.Unmarshal(raw, answer); err != nil {
			err = fmt.Errorf("its answer is not what it should be: %w: %.100q", err, raw)
		}
	}
	if err != nil {
		return c.failed(ctx, what, err)
	}
	return nil
}

// soon is ask for what is answered at once.
func (c *client) soon(ctx context.Context, what string, request, answer any) error {
	ctx, cancel := context.WithTimeoutCause(ctx, askTimeout, fmt.Errorf("no answer within %s", askTimeout))
	defer cancel()
	return c.ask(ctx, what, request, answer)
}

// lines reads an answer line by line, until take says that it was the last, or has an error.
func (c *client) lines(ctx context.Context, what string, body io.Reader, take func(line []byte, more bool) (last bool, err error)) error {
	reader := bufio.NewReaderSize(body, maxLine)
	for {
		line, err := reader.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			err = fmt.Errorf("a line of its answer is longer than %d bytes", maxLine)
		case errors.Is(err, io.EOF):
			err = errors.New("it closed the connection in the middle of its answer")
		case err != nil:
			err = fmt.Errorf("its answer broke off: %w", err)
		}
		last := false
		if err == nil {
			last, err = take(line, reader.Buffered() > 0)
		}
		if final(err) {
			return err
		}
		if err != nil {
			return c.failed(ctx, what, err)
		}
		if last {
			return nil
		}
	}
}

// terminate asks backends to end, and gives those that run.
func (c *client) terminate(ctx context.Context, drone string, hard bool, ids ...string) (running []string, err error) {
	var answer struct {
		Running []string `json:"running"`
	}
	err = c.soon(ctx, "terminate", several{Drone: drone, BackendIDs: ids, Hard: hard}, &answer)
	return answer.Running, err
}

// What is sent. Unknown fields are for the server to ignore.
type (
	// one is a backend to prepare and to start.
	one struct {
		Drone      string            `json:"drone"`
		BackendID  string            `json:"backend_id"`
		Namespace  string            `json:"namespace"`
		Key        string            `json:"key"`
		Executable json.RawMessage   `json:"executable"`
		Env        map[string]string `json:"env"`
	}
	// several names backends; nil: all of the drone.
	several struct {
		Drone      string   `json:"drone"`
		BackendIDs []string `json:"backend_ids"`
		Hard       bool     `json:"hard,omitempty"`
		After      string   `json:"after,omitempty"`
	}
)

// What comes.
type (
	backend struct {
		BackendID string `json:"backend_id"`
		Address   string `json:"address"`
		PID       int    `json:"pid"`
		Asleep    bool   `json:"asleep"`
		Ended     *ended `json:"ended"`
		// Output is what an ended one wrote behind the mark that was asked for.
		Output []written `json:"output"`
	}
	ended struct {
		ExitCode *int32 `json:"exit_code"`
		Signal   string `json:"signal"`
		Message  string `json:"message"`
	}
	written struct {
		Stream runtime.Stream `json:"stream"`
		Line   *string        `json:"line"`
	}
	event struct {
		backend
		written
		At     string `json:"at"`
		Listed bool   `json:"listed"`
		Sleeps bool   `json:"sleeps"`
	}
)

func (e *ended) exit() runtime.Exit {
	exit := runtime.Exit{Code: -1, Signal: e.Signal, Message: e.Message}
	if e.ExitCode != nil && e.Signal == "" {
		exit.Code = max(int(*e.ExitCode), -1)
	}
	return exit
}
