package spares_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jetway-project/jetway/internal/drone/spares"
	"github.com/jetway-project/jetway/internal/runtime"
	"github.com/jetway-project/jetway/internal/runtime/fake"
	"github.com/jetway-project/jetway/internal/testkit"
	"github.com/jetway-project/jetway/messages"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// rig is a pool over a fake runtime, whose spares are all at one address.
type rig struct {
	*spares.Pool
	t       *testing.T
	rt      *fake.Runtime
	address string
	stop    context.CancelFunc
	ended   chan struct{}

	mu       sync.Mutex
	room     spares.Room
	mute     bool // none answers
	started  int
	revision int64
}

// counting counts starts.
type counting struct {
	*fake.Runtime
	r *rig
}

func (c counting) Start(ctx context.Context, spec runtime.Spec) (runtime.Instance, error) {
	c.r.mu.Lock()
	c.r.started++
	c.r.mu.Unlock()
	return c.Runtime.Start(ctx, spec)
}

func newRig(t *testing.T, claim http.HandlerFunc) *rig {
	t.Helper()
	server := httptest.NewServer(claim)
	t.Cleanup(server.Close)
	ctx, stop := context.WithCancel(t.Context())
	r := &rig{
		t: t, rt: fake.New(), address: strings.TrimPrefix(server.URL, "http://"), stop: stop, ended: make(chan struct{}),
		room: spares.Room{Instances: 1 << 20, Demands: runtime.Demands{MemoryBytes: 1 << 40, CPUMillis: 1 << 40}},
	}
	r.Pool = spares.New(spares.Config{
		Runtime: counting{r.rt, r}, Demands: func(s *messages.Template) runtime.Demands { return r.rt.Demands(s.Executable) },
		Room: func() spares.Room {
			r.mu.Lock()
			defer r.mu.Unlock()
			return r.room
		},
		Await: func(ctx context.Context, _ string, i runtime.Instance, met func(string)) bool {
			r.mu.Lock()
			mute := r.mute
			r.mu.Unlock()
			if mute {
				met("connection refused")
				select {
				case <-ctx.Done():
				case <-i.Done():
				}
				return false
			}
			return ctx.Err() == nil
		},
		Kill: func(ctx context.Context, _ string, i runtime.Instance) {
			_ = i.Terminate(ctx, true)
			select {
			case <-i.Done():
			case <-ctx.Done():
			}
		},
		StartupTimeout: 50 * time.Millisecond, AtOnce: 4, Changed: func() {}, Env: map[string]string{}, Log: testkit.Logger(t),
	})
	go func() {
		defer close(r.ended)
		r.Run(ctx)
	}()
	t.Cleanup(func() {
		stop()
		testkit.Receive(t, r.ended, "the pool ends")
	})
	return r
}

// set keeps spares of templates with a script.
func (r *rig) set(templates ...messages.Template) {
	r.revision++
	for i := range templates {
		templates[i].Revision, templates[i].ClaimPath = r.revision, "/claim"
	}
	r.Set(templates)
}

func (r *rig) of(name string, n int, change ...func(*fake.Script)) messages.Template {
	script := fake.Script{Address: r.address, Print: []string{"loaded"}}
	for _, c := range change {
		c(&script)
	}
	return messages.Template{Name: name, Spares: n, Executable: script.Executable()}
}

func (r *rig) awaits(name, what string, wanted func(messages.SpareState) bool) (state messages.SpareState) {
	r.t.Helper()
	testkit.Eventually(r.t, what, func() bool {
		for _, state = range r.States() {
			if state.Template == name && wanted(state) {
				return true
			}
		}
		return false
	})
	return state
}

func (r *rig) awaitReady(name string, n int) {
	r.t.Helper()
	r.awaits(name, name+" has its spares", func(s messages.SpareState) bool { return s.Ready == n && s.Starting == 0 })
}

func (r *rig) awaitLive(n int) {
	r.t.Helper()
	testkit.Eventually(r.t, "as many run as should", func() bool { return len(r.rt.Live()) == n })
}

func takes(http.ResponseWriter, *http.Request) {}
