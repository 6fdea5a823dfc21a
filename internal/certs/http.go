package certs

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/jetway-project/jetway/messages"
)

// servePlain serves plain HTTP until ctx ends.
func (k *Keeper) servePlain(ctx context.Context) {
	server := &http.Server{
		Handler:           k,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      10 * time.Second,
		IdleTimeout:       30 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(k.cfg.Log.Handler(), slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	k.cfg.Log.InfoContext(ctx, "redirecting plain HTTP to https", "address", k.cfg.HTTP.Addr().String())
	if err := server.Serve(k.cfg.HTTP); !errors.Is(err, http.ErrServerClosed) {
		k.cfg.Log.ErrorContext(ctx, "plain HTTP is no longer answered", "err", err)
	}
}

// ServeHTTP answers plain HTTP: HTTP-01 challenges, and all else with the way to https.
func (k *Keeper) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if k.source.challenged(w, r) {
		return
	}
	// https is on 443 wherever it is used: cluster URLs with another port are http.
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	if messages.CheckCluster(host) != nil || r.URL.Path == "" || r.URL.Path[0] != '/' {
		http.Error(w, "This is not a request for a path of a host.", http.StatusBadRequest)
		return
	}
	w.Header().Set("Connection", "close")
	http.Redirect(w, r, "https://"+host+r.URL.RequestURI(), http.StatusPermanentRedirect)
}
