package main

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/coder/websocket"
)

const (
	writeTimeout = 5 * time.Second
	pingEvery    = 20 * time.Second // keeps proxies from closing a quiet connection
	pingTimeout  = 10 * time.Second
)

// you is what the proxy said about a visitor; only they get to see it.
type you struct {
	Username string `json:"username,omitempty"`
	Path     string `json:"path,omitempty"`
	UserData string `json:"user_data,omitempty"`
}

// client is one WebSocket. Its goroutines end before serve returns.
type client struct {
	conn   *websocket.Conn
	you    you
	person person // guarded by the room's mutex

	queue    chan []byte
	dropOnce sync.Once
	dropped  chan struct{} // closed when the visitor was too slow
}

func newClient(conn *websocket.Conn, you you) *client {
	name := cleanName(you.Username)
	return &client{
		conn: conn, you: you, person: person{Name: name, Verified: name != ""},
		queue: make(chan []byte, queueLength), dropped: make(chan struct{}),
	}
}

// enqueue never blocks: who is too far behind is dropped, and can come back.
func (c *client) enqueue(message []byte) {
	select {
	case c.queue <- message:
	default:
		c.dropOnce.Do(func() { close(c.dropped) })
	}
}

// goodbye tells the browser that the room is going away, so that it reconnects.
func (c *client) goodbye(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() { c.conn.CloseNow() })
	defer stop()
	c.conn.Close(websocket.StatusGoingAway, "the room is closing")
}

// serve carries messages both ways until the connection ends, and says why it did.
func (c *client) serve(ctx context.Context, r *room) string {
	ctx, cancel := context.WithCancel(ctx)
	var helpers sync.WaitGroup
	defer helpers.Wait()
	defer cancel()
	helpers.Go(func() { c.write(ctx) })
	helpers.Go(func() { c.ping(ctx) })
	helpers.Go(func() { c.cutOff(ctx) })
	for {
		kind, message, err := c.conn.Read(ctx)
		if err != nil {
			return c.why(err)
		}
		var q request
		if kind != websocket.MessageText || json.Unmarshal(message, &q) != nil {
			c.conn.Close(websocket.StatusUnsupportedData, "want JSON text")
			return "spoke no JSON"
		}
		r.handle(c, q)
	}
}

func (c *client) why(err error) string {
	select {
	case <-c.dropped:
		return "too slow"
	default:
	}
	if status := websocket.CloseStatus(err); status != -1 {
		return status.String()
	}
	return "connection lost"
}

func (c *client) write(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case message := <-c.queue:
			if c.writeOne(ctx, message) != nil {
				c.conn.CloseNow()
				return
			}
		}
	}
}

func (c *client) writeOne(ctx context.Context, message []byte) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	return c.conn.Write(ctx, websocket.MessageText, message)
}

// cutOff ends the connection when the visitor is dropped. It does not say goodbye:
// that would wait for the same slow reader.
func (c *client) cutOff(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-c.dropped:
		c.conn.CloseNow()
	}
}

func (c *client) ping(ctx context.Context) {
	ticker := time.NewTicker(pingEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		pingCtx, cancel := context.WithTimeout(ctx, pingTimeout)
		err := c.conn.Ping(pingCtx)
		cancel()
		if err != nil {
			c.conn.CloseNow()
			return
		}
	}
}
