package gateway

import (
	"context"
	"net/http"
	"strings"
	"time"
)

// handledError says that the call was answered already.
type handledError struct{}

func (handledError) Error() string { return "answered already" }

// hopHeaders belong to one connection, and to the body that is not sent on.
var hopHeaders = []string{
	"Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection", "Te", "Trailer",
	"Transfer-Encoding", "Upgrade", "Content-Length", "Expect",
}

// forwardTimeout bounds the wait for who says whether a request may be.
const forwardTimeout = 5 * time.Second

// forward asks another server about a request, as Plane does: with its method and headers, no body, and its path in
// x-original-path, below /ctrl where it is. 2xx lets it through.
func (c *call) forward() error {
	ctx, cancel := context.WithTimeout(c.r.Context(), forwardTimeout)
	defer cancel()
	ask, err := http.NewRequestWithContext(ctx, c.r.Method, c.g.cfg.ForwardAuth, nil)
	if err != nil {
		return err
	}
	ask.Header = c.r.Header.Clone()
	for _, named := range c.r.Header.Values("Connection") {
		for name := range strings.SplitSeq(named, ",") {
			ask.Header.Del(strings.TrimSpace(name))
		}
	}
	for _, name := range hopHeaders {
		ask.Header.Del(name)
	}
	path := c.r.URL.Path
	if below, ok := strings.CutPrefix(path, "/ctrl"); ok {
		path = below
	}
	ask.Header.Set("X-Original-Path", path)
	ask.Header.Set("X-Forwarded-Host", c.r.Host)
	resp, err := c.g.forwarding.Do(ask)
	if err != nil {
		c.g.log.Warn("the server that says who may ask does not answer", "err", err)
		c.plain(http.StatusBadGateway, "Error forwarding auth.")
		return handledError{}
	}
	_ = resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		c.unauthorized()
		return handledError{}
	}
	c.who = everybody()
	return nil
}

func (c *call) unauthorized() {
	c.status = http.StatusUnauthorized
	c.w.Header().Set("Content-Length", "12")
	c.w.WriteHeader(http.StatusUnauthorized)
	_, _ = c.w.Write([]byte("Unauthorized"))
}
