package gateway

import (
	"net/http"
	"time"
)

// Waits has a gateway wait otherwise than users' do: for the client as long as patience says, looking at its file of
// tokens often, and asking a worker soon where events may be missing.
func (c *Config) Waits(patience, often time.Duration) {
	c.waits = waits{read: patience, write: patience, reload: often}
}

// Slow bounds the wait for a head and its body, and for one who does not read.
func (c *Config) Slow(read, write time.Duration) { c.waits.read, c.waits.write = read, write }

// Handler is what the gateway's server asks.
func (g *Gateway) Handler() http.Handler { return g.handler() }

// Unsure is after how long a worker is asked.
func (c *Config) Unsure(d time.Duration) { c.waits.unsure = d }

// RouteInfo is what tests go through of the table.
type RouteInfo struct {
	Method, Path, Scope           string
	Shared, Public, Plane, Stream bool
	Described                     bool
}

// Routes gives the table.
func Routes() (all []RouteInfo) {
	for _, r := range routes {
		all = append(all, RouteInfo{r.method, r.path, r.scope, r.shared, r.public, r.plane, r.stream, r.summary != ""})
	}
	return all
}

// Watching is how many streams are open.
func (g *Gateway) Watching() int { return g.hub.count() }

// ReadTokens reads a file of tokens.
func ReadTokens(text string) error {
	_, err := readTokens([]byte(text), 1)
	return err
}
