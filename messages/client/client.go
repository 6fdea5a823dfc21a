package client

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/jetway-project/jetway/messages"
)

// Config says where the NATS server is and who connects.
type Config struct {
	// URL is one or more servers, separated by commas.
	URL string
	// Name is what the server shows of this connection; "": jetway-client.
	Name string
	// User is whose replies arrive: "web" has them arrive below _INBOX.web, as the permissions of deploy/nats want it. "": below
	// _INBOX, or where Options say.
	User string
	// Options are nats.go's own: credentials, TLS, handlers.
	Options []nats.Option
}

// Client asks Jetway's workers and follows what is published. It may be used by any number of goroutines at once.
type Client struct{ nc *nats.Conn }

// Connect connects to NATS. From then on the connection comes back by itself, for ever, whatever happens to the server;
// what is asked while it is away fails at once with the kind Unavailable. Who connects calls [Client.Close].
func Connect(cfg Config) (*Client, error) {
	name := cfg.Name
	if name == "" {
		name = "jetway-client"
	}
	options := []nats.Option{nats.Name(name), nats.MaxReconnects(-1), nats.ReconnectBufSize(-1)}
	if cfg.User != "" {
		options = append(options, nats.CustomInboxPrefix(messages.InboxPrefix(cfg.User)))
	}
	nc, err := nats.Connect(cfg.URL, append(options, cfg.Options...)...)
	if err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	return New(nc), nil
}

// New gives a client of a connection that the caller keeps and closes.
func New(nc *nats.Conn) *Client { return &Client{nc: nc} }

// Close closes the connection. Requests that wait and iterators end with an error.
func (c *Client) Close() { c.nc.Close() }

// Conn is the connection, for what has no method here.
func (c *Client) Conn() *nats.Conn { return c.nc }

// Connect gives the backend that holds a key: the one that runs, or, where none does and the request has a spawn_config, a new one.
func (c *Client) Connect(ctx context.Context, r messages.ConnectRequest) (messages.ConnectResponse, error) {
	return Request[messages.ConnectResponse](ctx, c.nc, messages.SubjectConnect, r)
}

// Join is [Client.Connect] to what runs: of the kind KeyUnheldNoSpawnConfig where nothing does.
func (c *Client) Join(ctx context.Context, key messages.Key) (messages.ConnectResponse, error) {
	return c.Connect(ctx, messages.ConnectRequest{Key: &key})
}

// Status gives what is known of a backend, also after its end until it is forgotten (a day by default).
func (c *Client) Status(ctx context.Context, backend string) (messages.BackendInfo, error) {
	return Request[messages.BackendInfo](ctx, c.nc, messages.SubjectStatus, messages.StatusRequest{BackendID: backend})
}

// StatusOfKey gives the backend that holds a key, or held it last.
func (c *Client) StatusOfKey(ctx context.Context, key messages.Key) (messages.BackendInfo, error) {
	return Request[messages.BackendInfo](ctx, c.nc, messages.SubjectStatus, messages.StatusRequest{Key: &key})
}

// Terminate asks a backend to end: softly (SIGTERM, grace, SIGKILL), or hard, at once. It returns when that is on record, not when
// the backend has ended: [Client.Watch] says when.
func (c *Client) Terminate(ctx context.Context, backend string, hard bool) error {
	_, err := RequestRaw(ctx, c.nc, messages.SubjectTerminate, messages.Encode(messages.TerminateRequest{BackendID: backend, Hard: hard}))
	return err
}

// Sleep puts a backend to sleep, and Wake wakes it, as the workers do by themselves for who has spawn_config.sleep_after_seconds. Again is no error; what
// cannot sleep is of the kind CannotSleep.
func (c *Client) Sleep(ctx context.Context, backend string) (messages.NapResponse, error) {
	return Request[messages.NapResponse](ctx, c.nc, messages.SubjectSleep, messages.NapRequest{BackendID: backend})
}

// Wake is explained with [Client.Sleep].
func (c *Client) Wake(ctx context.Context, backend string) (messages.NapResponse, error) {
	return Request[messages.NapResponse](ctx, c.nc, messages.SubjectWake, messages.NapRequest{BackendID: backend})
}

// Revoke makes connection tokens lead nowhere and cuts what is connected with them. It says how many there were.
func (c *Client) Revoke(ctx context.Context, r messages.RevokeRequest) (revoked int, err error) {
	resp, err := Request[messages.RevokeResponse](ctx, c.nc, messages.SubjectRevoke, r)
	return resp.Revoked, err
}

// Retry forgives a key its failures, so that it may be started at once: see [messages.Crashes]. It says how many there were.
func (c *Client) Retry(ctx context.Context, key messages.Key) (forgiven int, err error) {
	resp, err := Request[messages.RetryResponse](ctx, c.nc, messages.SubjectRetry, messages.RetryRequest{Key: key})
	return resp.Forgiven, err
}

// Drain has a drone be given no more backends. It says how many the drone still has: to ask again follows it.
func (c *Client) Drain(ctx context.Context, drone string) (backends int, err error) {
	return c.drain(ctx, messages.SubjectDrain, drone)
}

// Undrain has a drone be given backends again.
func (c *Client) Undrain(ctx context.Context, drone string) (backends int, err error) {
	return c.drain(ctx, messages.SubjectUndrain, drone)
}

func (c *Client) drain(ctx context.Context, subject, drone string) (int, error) {
	resp, err := Request[messages.DrainResponse](ctx, c.nc, subject, messages.DrainRequest{Drone: drone})
	return resp.Backends, err
}

// List gives backends by id, those that have not ended unless the request wants all, page by page as the caller takes them.
func (c *Client) List(ctx context.Context, r messages.BackendsRequest) iter.Seq2[messages.BackendInfo, error] {
	return pages(func() ([]messages.BackendInfo, bool, error) {
		page, err := Request[messages.BackendsResponse](ctx, c.nc, messages.SubjectBackends, r)
		r.After = page.Next
		return page.Backends, page.Next != "", err
	})
}

// Keys gives the keys that a backend holds, that are dormant, or that rest, by namespace and name, as [Client.List].
func (c *Client) Keys(ctx context.Context, r messages.KeysRequest) iter.Seq2[messages.KeyInfo, error] {
	return pages(func() ([]messages.KeyInfo, bool, error) {
		page, err := Request[messages.KeysResponse](ctx, c.nc, messages.SubjectKeys, r)
		r.After = page.Next
		return page.Keys, page.Next != nil, err
	})
}

// Drones gives the drones by name, as [Client.List].
func (c *Client) Drones(ctx context.Context) iter.Seq2[messages.DroneInfo, error] {
	var r messages.DronesRequest
	return pages(func() ([]messages.DroneInfo, bool, error) {
		page, err := Request[messages.DronesResponse](ctx, c.nc, messages.SubjectDrones, r)
		r.After = page.Next
		return page.Drones, page.Next != "", err
	})
}

func pages[Row any](next func() (rows []Row, more bool, err error)) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		for more := true; more; {
			var rows []Row
			var err error
			if rows, more, err = next(); err != nil {
				var none Row
				yield(none, err)
				return
			}
			for i := range rows {
				if !yield(rows[i], nil) {
					return
				}
			}
		}
	}
}

// Watch follows one backend from its first state to its last: the history first, then each event as it comes, in order, none
// twice and none left out, also when the connection is lost meanwhile, and in a cluster whose servers lag. It ends after terminated,
// or with an error: that of ctx, Unavailable when the server or its stream of events is not there at the start, NotFound when the
// workers know the backend no more. It costs the server a subscription and some direct gets, and no JetStream consumer.
func (c *Client) Watch(ctx context.Context, backend string) iter.Seq2[messages.StateEvent, error] {
	return watch(ctx, c.nc, backend)
}

// Await watches a backend until it has reached a status, such as Ready. A backend that ends before that is an error,
// an [*EndedError] that says how.
func (c *Client) Await(ctx context.Context, backend string, status messages.Status) (messages.StateEvent, error) {
	for event, err := range c.Watch(ctx, backend) {
		switch {
		case err != nil:
			return event, err
		case event.Status >= status && (status == messages.Terminated || !event.Status.Leaving()):
			return event, nil
		case event.Status == messages.Terminated:
			return event, &EndedError{Event: event}
		}
	}
	return messages.StateEvent{}, fmt.Errorf("watch %s: %w", backend, context.Cause(ctx))
}

// EndedError says that a backend ended before it reached what was waited for.
type EndedError struct{ Event messages.StateEvent }

// Error says how it ended.
func (e *EndedError) Error() string {
	text := "backend " + e.Event.BackendID + " has ended"
	if e.Event.Reason != "" {
		text += " (" + string(e.Event.Reason) + ")"
	}
	if e.Event.Message != "" {
		text += ": " + e.Event.Message
	}
	return text
}

// WatchAll follows all backends from now on, in the order of the stream of events, none left out and none twice.
func (c *Client) WatchAll(ctx context.Context) iter.Seq2[messages.StateEvent, error] {
	return watchAll(ctx, c.nc)
}

// History gives the events of a backend that the stream still holds, and its current state.
func (c *Client) History(ctx context.Context, backend string) ([]messages.StateEvent, error) {
	return history(ctx, c.nc, backend)
}

// Logs gives a backend's output: the last lines, which the stream holds for an hour, and where it is followed each one as it comes.
func (c *Client) Logs(ctx context.Context, what Logs) iter.Seq2[messages.LogLine, error] {
	return lines(ctx, c.nc, what)
}

// DefaultTimeout is how long a request waits when its context has no deadline. Workers wait for 60 s at most.
const DefaultTimeout = 5 * time.Second
