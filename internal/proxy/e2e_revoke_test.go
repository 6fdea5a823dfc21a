package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/jetway-project/jetway/internal/runtime/fake"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
	"github.com/jetway-project/jetway/messages/client"
)

// Once a user's tokens are revoked every proxy refuses them and cuts what is open with
// them, whichever it came through, and another user of the backend notices nothing (the
// issue's demand).
func TestE2ERevocationReachesEveryProxy(t *testing.T) {
	t.Parallel()
	s := newStack(t, nil)
	second := s.another()
	backend := newRawBackend(t, func(c *rawConn, _ string) {
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		_, _ = io.Copy(c, c.from)
	})
	as := func(user string) messages.ConnectResponse {
		return s.connect(messages.ConnectRequest{
			Key: &messages.Key{Name: "doc-1"}, User: user,
			SpawnConfig: &messages.SpawnConfig{Executable: fake.Script{Address: backend.address}.Executable()},
		})
	}
	open := func(proxy, token string) (net.Conn, *bufio.Reader, int) {
		conn := dialTo(t, proxy)
		_, err := fmt.Fprintf(conn, "GET /%s/ HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n", token, s.cluster)
		must(t, err)
		from := bufio.NewReader(conn)
		resp, err := http.ReadResponse(from, nil)
		must(t, err)
		return conn, from, resp.StatusCode
	}
	ada, bob := as("ada"), as("bob")
	type talk struct {
		net.Conn
		from *bufio.Reader
	}
	proxies := []string{s.addr, second}
	var adas, bobs []talk
	for _, proxy := range proxies {
		for token, list := range map[string]*[]talk{ada.Token: &adas, bob.Token: &bobs} {
			conn, from, status := open(proxy, token)
			if status != http.StatusSwitchingProtocols {
				t.Fatalf("the backend is not reached: %d", status)
			}
			*list = append(*list, talk{conn, from})
		}
	}

	ctx := testkit.Context(t)
	user := "ada"
	_, err := client.Request[messages.RevokeResponse](ctx, s.nc, messages.SubjectRevoke, messages.RevokeRequest{BackendID: ada.BackendID, User: &user})
	must(t, err)
	for i, proxy := range proxies {
		if said := ends(t, adas[i], "ada's connection"); said != "" {
			t.Errorf("proxy %d: ada hears %q", i, said)
		}
		if _, _, status := open(proxy, ada.Token); status != http.StatusGone {
			t.Errorf("proxy %d: ada's token gets %d", i, status)
		}
		_, err := io.WriteString(bobs[i], "hello\n")
		must(t, err)
		if line, err := bobs[i].from.ReadString('\n'); line != "hello\n" {
			t.Errorf("proxy %d: bob hears %q, %v", i, line, err)
		}
		if _, _, status := open(proxy, bob.Token); status != http.StatusSwitchingProtocols {
			t.Errorf("proxy %d: bob's token gets %d", i, status)
		}
	}
}
