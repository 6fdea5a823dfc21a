package proxy

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/testkit"
)

// I8: an upgraded connection over TLS that is idle holds nothing of the request that it began with. Client and backend are in this process
// and counted too: with the request's buffers it was twice as much.
func TestIdleUpgradeHoldsLittle(t *testing.T) {
	w := newTLSWorld(t)
	w.leads(token("a"), "be-a", func(rw http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(rw).Hijack()
		if err != nil {
			return
		}
		t.Cleanup(func() { _ = conn.Close() })
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	})
	open := func() {
		conn, err := tls.Dial("tcp", w.addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
		must(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		_ = conn.SetDeadline(time.Now().Add(testkit.Patience))
		_, err = fmt.Fprintf(conn, "GET /%s/ HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", token("a"), cluster)
		must(t, err)
		resp, err := http.ReadResponse(bufio.NewReaderSize(conn, 16), nil)
		must(t, err)
		equal(t, "status", resp.StatusCode, http.StatusSwitchingProtocols)
	}
	for range 8 { // for what is there once
		open()
	}
	const many = 100
	before := live()
	for range many {
		open()
	}
	testkit.Eventually(t, "their handlers to end", func() bool { return w.proxy.upgrades.Load() == 8+many })
	each := (live() - before) / many
	t.Logf("%d bytes each", each)
	if each > 23<<10 {
		t.Errorf("an idle one holds %d bytes of the heap", each)
	}
}

// live is the heap without garbage.
func live() int64 {
	var m runtime.MemStats
	for range 2 { // pools are emptied by the second
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
