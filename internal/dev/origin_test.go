package dev_test

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/cookiejar"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/internal/dev"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

// infoAtItsHost enters a session that has a host of its own below localhost, as browsers do, which know all of *.localhost,
// and asks the room there for itself.
func infoAtItsHost(t *testing.T, stack *dev.Stack, link string) (room roomInfo) {
	t.Helper()
	host, _, ok := strings.Cut(strings.TrimPrefix(link, "http://"), messages.EnterPath)
	_, below, _ := strings.Cut(host, ".")
	if !ok || "http://"+below != stack.ProxyURL {
		t.Fatalf("the link %s does not enter a host below %s", link, stack.ProxyURL)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, below)
	}}
	browser := &http.Client{Jar: jar, Transport: transport}
	for _, url := range []string{link, "http://" + host + "/info"} {
		req, err := http.NewRequestWithContext(testkit.Context(t), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := browser.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("%s, after redirects %s, gives %s", url, resp.Request.URL, resp.Status)
		}
		if strings.HasSuffix(url, "/info") {
			err = json.NewDecoder(resp.Body).Decode(&room)
		}
		_ = resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
	}
	return room
}
