package testkit

import (
	"net/http"
	"testing"

	"github.com/coder/websocket"
)

// WebSocket opens one to a backend, through a proxy, that may still be starting: then the handshake is refused with 503
// after two seconds, and made again. It is closed when the test ends.
func WebSocket(tb testing.TB, url string, options *websocket.DialOptions) (conn *websocket.Conn, err error) {
	tb.Helper()
	Eventually(tb, "the handshake is answered", func() bool {
		var resp *http.Response
		conn, resp, err = websocket.Dial(Context(tb), url, options) //nolint:bodyclose // the library says that nobody has to
		return resp == nil || resp.StatusCode != http.StatusServiceUnavailable
	})
	if err == nil {
		tb.Cleanup(func() { _ = conn.CloseNow() })
	}
	return conn, err
}
