// Command spare is a backend in Go that can be started ahead, as a spare: it loads, waits, and is told by a POST which key it is for.
package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync/atomic"
)

type who struct {
	Key string `json:"key"`
}

func main() {
	var me atomic.Pointer[who]
	if os.Getenv("SESSION_BACKEND_SPARE") == "" { // a spare's key comes later
		me.Store(&who{os.Getenv("SESSION_BACKEND_KEY")})
	}
	http.HandleFunc("POST /claim", func(w http.ResponseWriter, r *http.Request) {
		var told who
		switch err := json.NewDecoder(r.Body).Decode(&told); {
		case err != nil:
			http.Error(w, err.Error(), http.StatusBadRequest)
		case !me.CompareAndSwap(nil, &told): // visitors reach this path too: only the first claim counts
			http.Error(w, "claimed already", http.StatusConflict)
		default:
			// Open the document, the database… here, within two seconds: the answer says that visitors may come.
			w.WriteHeader(http.StatusNoContent)
		}
	})
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { // HEAD is how the drone asks whether it is ready to be claimed
		key := "nobody's yet"
		if is := me.Load(); is != nil {
			key = is.Key
		}
		fmt.Fprintf(w, "hello, this is %s\n", key)
	})
	where := net.JoinHostPort(cmp.Or(os.Getenv("HOST"), "127.0.0.1"), cmp.Or(os.Getenv("PORT"), "8080"))
	err := http.ListenAndServe(where, nil) //nolint:gosec // its only client is the proxy, which bounds what takes long
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
