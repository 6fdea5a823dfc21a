// Command hello is a backend in Go: one process for each key, which counts its visits.
package main

import (
	"cmp"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync/atomic"
)

func main() {
	var visits atomic.Int64
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet { // HEAD is how the drone asks whether it is ready
			visits.Add(1)
		}
		user, _ := url.PathUnescape(r.Header.Get("X-Verified-Username"))
		fmt.Fprintf(w, "hello %s, this is %s, visit %d\n", cmp.Or(user, "stranger"), os.Getenv("SESSION_BACKEND_KEY"), visits.Load())
	})
	where := net.JoinHostPort(cmp.Or(os.Getenv("HOST"), "127.0.0.1"), cmp.Or(os.Getenv("PORT"), "8080"))
	err := http.ListenAndServe(where, nil) //nolint:gosec // its only client is the proxy, which bounds what takes long
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
