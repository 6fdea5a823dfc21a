package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
)

// Limits that keep the room's memory bounded.
const (
	maxPeople      = 100
	maxStrokes     = 4000 // kept for those who come late; the oldest go first
	maxStrokePairs = 32   // points of one stroke; a longer line is several
	maxMessage     = 8 << 10
	queueLength    = 256 // messages that a slow visitor may be behind
)

// info is what the room says about itself, at /info and to everybody who enters.
type info struct {
	BackendID    string `json:"backend_id"`
	Key          string `json:"key"`
	Namespace    string `json:"namespace"`
	FencingToken string `json:"fencing_token"`
	PID          int    `json:"pid"`
	Here         int    `json:"here"`
	Count        int64  `json:"count"`
}

func infoFrom(getenv func(string) string) info {
	return info{
		BackendID:    getenv("SESSION_BACKEND_ID"),
		Key:          getenv("SESSION_BACKEND_KEY"),
		Namespace:    getenv("SESSION_BACKEND_NAMESPACE"),
		FencingToken: getenv("SESSION_BACKEND_FENCING_TOKEN"),
		PID:          os.Getpid(),
	}
}

// logger writes whole lines.
type logger struct {
	mu  sync.Mutex
	out io.Writer
}

func newLogger(out io.Writer) *logger { return &logger{out: out} }

func (l *logger) printf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(l.out, format+"\n", args...)
}

// person is somebody in the room, as the others see them.
type person struct {
	ID       int    `json:"id"`
	Name     string `json:"name"`
	Color    string `json:"color"`
	Verified bool   `json:"verified"`
}

// stroke is a piece of a line: x and y in turn, 0 to 10000 across the canvas.
type stroke struct {
	Color  string `json:"c"`
	Width  int    `json:"w"`
	Points []int  `json:"p"`
}

// event is what the room sends. Only the fields of its type are set.
type event struct {
	Type    string   `json:"t"` // hello, people, count, stroke, clear
	Me      int      `json:"me,omitempty"`
	You     *you     `json:"you,omitempty"`
	Info    *info    `json:"info,omitempty"`
	People  []person `json:"people,omitempty"`
	Count   *int64   `json:"count,omitempty"`
	Strokes []stroke `json:"strokes,omitempty"`
}

// request is what a visitor sends: name, inc, draw or clear.
type request struct {
	Type   string `json:"t"`
	Name   string `json:"name"`
	Width  int    `json:"w"`
	Points []int  `json:"p"`
}

// room is the shared state. Its mutex is held while an event is put into the queues,
// which never blocks, so everybody gets all events in the same order.
type room struct {
	log *logger

	mu      sync.Mutex
	info    info
	closing bool
	// spare says that it waits to be told whose it is.
	spare   bool
	lastID  int
	clients []*client // in order of arrival
	strokes []stroke
	leaving sync.WaitGroup // one per client
}

func newRoom(info info, log *logger) *room { return &room{info: info, log: log} }

// enter adds a visitor and puts the whole state first into their queue. It is false
// when the room is full or closing.
func (r *room) enter(c *client) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closing || len(r.clients) >= maxPeople {
		return false
	}
	r.leaving.Add(1)
	r.lastID++
	c.person.ID = r.lastID
	c.person.Color = colors[r.lastID%len(colors)]
	if c.person.Name == "" {
		c.person.Name = friendlyName(r.lastID)
	}
	r.clients = append(r.clients, c)
	about := r.about()
	r.send(c, event{
		Type: "hello", Me: c.person.ID, You: &c.you, Info: &about,
		Count: &about.Count, Strokes: r.strokes,
	})
	r.broadcast(event{Type: "people", People: r.people()})
	r.log.printf("%s joined, %d here", c.person.Name, len(r.clients))
	return true
}

// leave removes a visitor. Only the first call counts.
func (r *room) leave(c *client, why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := slices.Index(r.clients, c)
	if at < 0 {
		return
	}
	r.clients = slices.Delete(r.clients, at, at+1)
	r.leaving.Done()
	r.broadcast(event{Type: "people", People: r.people()})
	r.log.printf("%s left (%s), %d here", c.person.Name, why, len(r.clients))
}

// handle does what a visitor asks. What makes no sense is ignored.
func (r *room) handle(c *client, q request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch q.Type {
	case "inc":
		r.info.Count++
		count := r.info.Count
		r.broadcast(event{Type: "count", Count: &count})
	case "name":
		name := cleanName(q.Name)
		if name == "" || c.person.Verified || name == c.person.Name {
			return
		}
		r.log.printf("%s is now called %s", c.person.Name, name)
		c.person.Name = name
		r.broadcast(event{Type: "people", People: r.people()})
	case "draw":
		if len(q.Points) < 2 || len(q.Points)%2 != 0 || len(q.Points) > 2*maxStrokePairs {
			return
		}
		for n, value := range q.Points {
			q.Points[n] = min(max(value, 0), 10_000)
		}
		drawn := stroke{Color: c.person.Color, Width: min(max(q.Width, 1), 60), Points: q.Points}
		if len(r.strokes) >= maxStrokes {
			r.strokes = slices.Delete(r.strokes, 0, maxStrokes/10)
		}
		r.strokes = append(r.strokes, drawn)
		r.broadcast(event{Type: "stroke", Strokes: []stroke{drawn}})
	case "clear":
		r.strokes = nil
		r.log.printf("%s cleared the canvas", c.person.Name)
		r.broadcast(event{Type: "clear"})
	}
}

// about is called with the mutex held.
func (r *room) about() info {
	about := r.info
	about.Here = len(r.clients)
	return about
}

// people is called with the mutex held.
func (r *room) people() []person {
	people := make([]person, len(r.clients))
	for n, c := range r.clients {
		people[n] = c.person
	}
	return people
}

// broadcast is called with the mutex held.
func (r *room) broadcast(e event) {
	message := encode(e)
	for _, c := range r.clients {
		c.enqueue(message)
	}
}

// send is called with the mutex held.
func (r *room) send(c *client, e event) { c.enqueue(encode(e)) }

func encode(e event) []byte {
	message, err := json.Marshal(e)
	if err != nil {
		panic("an event is always JSON: " + err.Error())
	}
	return message
}

// close says goodbye to everybody and waits, no longer than ctx, until they left.
func (r *room) close(ctx context.Context) {
	r.mu.Lock()
	r.closing = true
	clients := slices.Clone(r.clients)
	r.mu.Unlock()
	for _, c := range clients {
		go c.goodbye(ctx)
	}
	gone := make(chan struct{})
	go func() {
		r.leaving.Wait()
		close(gone)
	}()
	select {
	case <-gone:
	case <-ctx.Done():
	}
}
