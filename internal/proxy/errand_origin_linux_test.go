package proxy

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/jetway-project/jetway/messages"
)

// The demand that a link leads to its own session or nowhere, whichever part of the proxy carries the request: what loops carry gets the
// answer that net/http's handler gives to the same request, in origin mode and in path mode.
func TestLoopsServeWhatHandlersServe(t *testing.T) {
	for _, plain := range []bool{false, true} {
		w := newWorld(t, func(c *Config) { c.PlainPaths = plain })
		says := func(name string) http.HandlerFunc {
			return func(out http.ResponseWriter, r *http.Request) {
				out.Header().Add("Set-Cookie", "mine=1; Path=/")
				out.Header().Add("Set-Cookie", "__Host-jetway=forged; Path=/")
				out.Header().Set("Location", "/there")
				out.Header().Set("Clear-Site-Data", "*")
				_, _ = io.WriteString(out, name+" ")
				tells(out, r)
			}
		}
		mine, neighbours, shared := token("mine"), token("neighbours"), token("shared")
		host := w.has("mine", mine, "be-mine", says("mine"))
		other := w.has("neighbours", neighbours, "be-neighbours", says("neighbours"))
		w.worker.route(shared, ready("be-shared", backend(t, says("shared"))))
		w.get("/", "Host", host, "Cookie", "__Host-jetway="+mine) // makes the routes known
		w.get("/", "Host", other, "Cookie", "__Host-jetway="+neighbours)
		w.get("/" + shared + "/")
		ask := func(odd bool, path, host string, fields ...string) (said string, inLoop bool) {
			request := "GET " + path + " HTTP/1.1\r\nHost: " + host + "\r\n" + strings.Join(fields, "")
			if odd {
				request += "Te: trailers\r\n" // net/http's
			}
			a := w.asker()
			defer a.Close()
			_, err := io.WriteString(a, request+"\r\n")
			must(t, err)
			resp, err := http.ReadResponse(a.from, nil)
			must(t, err)
			body, err := io.ReadAll(resp.Body)
			must(t, err)
			if resp.StatusCode >= 400 {
				body = body[:strings.LastIndexByte(strings.TrimSpace(string(body)), '\n')] // what follows is the request's own number
			}
			h := resp.Header
			return fmt.Sprintf("%d %q %q %q %q %q", resp.StatusCode, body, h["Location"], h["Set-Cookie"], h["Clear-Site-Data"], h["Referrer-Policy"]), w.calling() == 1
		}
		cookie := func(tok string) string { return "Cookie: a=1; __Host-jetway=" + tok + "\r\n" }
		for _, c := range []struct {
			path, host string
			fields     []string
			carried    bool // by loops
		}{
			{"/" + shared + "/x?q", cluster, nil, true},
			{"/" + shared + "/x", cluster, []string{"Referer: http://" + cluster + "/" + mine + "/\r\n"}, true},
			{"/" + shared + "/x", cluster, []string{"Cookie: jetway=" + shared + "\r\n"}, false}, // it shares its host
			{"/" + shared + "/x", cluster, []string{cookie(mine)}, false},
			{"/x", host, []string{cookie(mine)}, true},
			{"/" + shared + "/x", host, []string{cookie(mine)}, true}, // the path is the backend's
			{"/x", host, []string{cookie(neighbours)}, false},
			{"/x", other, []string{cookie(mine)}, false},
			{"/x", host, []string{"Cookie: jetway=" + mine + "\r\n"}, false}, // a neighbour may have set it
			{"/x", host, []string{cookie(mine), "Sec-Fetch-Site: same-site\r\n", "Sec-Fetch-Mode: cors\r\n"}, false},
			{"/x", host, []string{cookie(mine), "Origin: https://" + other + "\r\n"}, false},
			{"/x", host, []string{"Authorization: Bearer " + mine + "\r\n"}, false},
			{"/" + mine + "/x", host, nil, true},
			{"/" + mine + "/x", other, nil, false},
			{messages.EnterPath + mine, host, nil, false},
			{"/x", host, nil, false},
			{"/" + mine, host, nil, false},
		} {
			want, _ := ask(true, c.path, c.host, c.fields...)
			got, carried := ask(false, c.path, c.host, c.fields...)
			if got != want {
				t.Errorf("plain paths %t: %s at %s %q:\n%s, but by net/http\n%s", plain, c.path, c.host, c.fields, got, want)
			}
			if carried != c.carried {
				t.Errorf("plain paths %t: %s at %s %q: carried by a loop: %t", plain, c.path, c.host, c.fields, carried)
			}
		}
		w.stop()
	}
}
