package docker_test

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/moby/moby/client"
)

// depot is a registry on the loopback, which Docker takes without TLS.
type depot struct {
	*stage
	host string
	// user and password are wanted of who reads, if set.
	user, password string
	// blobs counts the layers that were asked for.
	blobs atomic.Int64
	// gate, if set, holds up every layer in its middle until it is closed.
	gate   chan struct{}
	over   context.Context // the test's
	asked  chan struct{}   // a layer was asked for
	gone   chan struct{}   // who waited at the gate has gone
	inside http.Handler
}

func newDepot(s *stage) *depot {
	d := &depot{stage: s, inside: registry.New(registry.Logger(slog.NewLogLogger(slog.DiscardHandler, 0))), over: s.t.Context(), asked: make(chan struct{}, 100), gone: make(chan struct{}, 100)}
	server := httptest.NewServer(d)
	s.t.Cleanup(server.Close)
	d.host = strings.TrimPrefix(server.URL, "http://")
	return d
}

// ServeHTTP is the registry, with what makes it difficult.
func (d *depot) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	if d.user != "" && reads && r.Header.Get("Jetway-Test") == "" {
		user, password, _ := r.BasicAuth()
		if user != d.user || password != d.password {
			w.Header().Set("WWW-Authenticate", `Basic realm="depot"`)
			http.Error(w, `{"errors": [{"code": "UNAUTHORIZED", "message": "who are you?"}]}`, http.StatusUnauthorized)
			return
		}
	}
	if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
		d.blobs.Add(1)
		if d.gate != nil {
			w = &gated{ResponseWriter: w, r: r, d: d}
		}
	}
	d.inside.ServeHTTP(w, r)
}

// gated stops after what a first write brings, if that is a layer and not a config.
type gated struct {
	http.ResponseWriter
	r    *http.Request
	d    *depot
	once sync.Once
}

func (g *gated) Write(p []byte) (int, error) {
	const half = 16 << 10
	if len(p) <= half {
		return g.ResponseWriter.Write(p)
	}
	n, err := g.ResponseWriter.Write(p[:half])
	g.once.Do(func() {
		g.d.asked <- struct{}{}
		// A byte now and then: of a silent connection Docker would not notice that it
		// wants no more.
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for ; err == nil && n < len(p)-1; n++ {
			_ = http.NewResponseController(g.ResponseWriter).Flush()
			select {
			case <-g.d.gate:
				return
			case <-g.d.over.Done():
				return
			case <-g.r.Context().Done():
				g.d.gone <- struct{}{}
				return
			case <-tick.C:
			}
			_, err = g.ResponseWriter.Write(p[n : n+1])
		}
	})
	if err != nil {
		return n, err
	}
	m, err := g.ResponseWriter.Write(p[n:])
	return n + m, err
}

// put puts an image with random layers into the registry and returns its name.
func (d *depot) put(layers int64) string {
	d.t.Helper()
	img, err := random.Image(1<<20, layers)
	if err != nil {
		d.t.Fatal(err)
	}
	img, err = mutate.Config(img, v1.Config{Entrypoint: []string{"/nothing", rand.Text()}})
	if err != nil {
		d.t.Fatal(err)
	}
	ref, err := name.ParseReference(d.host + "/" + newID() + ":1")
	if err != nil {
		d.t.Fatal(err)
	}
	if err := remote.Write(ref, img, remote.WithTransport(trusted{})); err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() {
		_, _ = d.engine.ImageRemove(contextOf(d.t), ref.String(), client.ImageRemoveOptions{Force: true, PruneChildren: true})
	})
	return ref.String()
}

// trusted marks the requests of the test itself.
type trusted struct{}

// RoundTrip sends the request with the mark.
func (trusted) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Jetway-Test", "yes")
	return http.DefaultTransport.RoundTrip(r)
}

// has says whether the engine has the image.
func (d *depot) has(ref string) bool {
	_, err := d.engine.ImageInspect(contextOf(d.t), ref)
	return err == nil
}
